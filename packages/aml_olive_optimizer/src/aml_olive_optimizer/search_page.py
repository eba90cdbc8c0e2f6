"""optimization.html: what the search tried, what it came to, and why; one page without a network or a script."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_olive_optimizer import onnx_files, summary
from aml_olive_optimizer.footprints import Candidate, Footprint, Goal, Measurement, nearest_miss, ranked
from aml_olive_optimizer.search import Found

MEGABYTE = 1e6
_NO_CHOICES = ("providers_list", "data_config")  # they follow from the accelerator and the metric


@dataclass(frozen=True)
class Row:
    """One candidate as the page shows it."""

    rank: int
    candidate: Candidate
    size_bytes: int | None
    on_frontier: bool  # of the ranked metrics and the size, over all accelerators
    is_packaged: bool


@dataclass(frozen=True)
class Setting:
    """A value that the search tried for a setting of a pass, and what the candidates with it achieved."""

    pass_type: str
    setting: str
    value: str
    count: int
    best: Mapping[str, float]
    median: Mapping[str, float]


def rows(judged: Mapping[str, Sequence[Candidate]], packaged: Sequence[Candidate]) -> list[Row]:
    """Return every candidate, those that meet their goals first, each group best first."""
    everyone = [candidate for candidates in judged.values() for candidate in candidates]
    ordered = [*ranked(one for one in everyone if one.meets_goals), *ranked(one for one in everyone if one.misses)]
    sizes = {_key(candidate): _size_bytes(candidate) for candidate in ordered}
    compared = [one for one in ordered if one.meets_goals] or ordered
    merits = {_key(one): (*_merits(one), -float(sizes[_key(one)] or 0)) for one in compared}
    frontier = {
        key
        for key, mine in merits.items()
        if not any(_dominates(other, mine) for other in merits.values() if len(other) == len(mine))
    }
    kept = {_key(candidate) for candidate in packaged}
    return [
        Row(rank, candidate, sizes[_key(candidate)], _key(candidate) in frontier, _key(candidate) in kept)
        for rank, candidate in enumerate(ordered, start=1)
    ]


def settings(footprints: Mapping[str, Footprint], judged: Mapping[str, Sequence[Candidate]]) -> list[Setting]:
    """Return what each value of each searched setting came to: what the passes contributed, as far as it was searched.

    A setting that had one value in every candidate tells nothing and is left out.
    """
    groups: dict[tuple[str, str], dict[str, list[Candidate]]] = {}
    for accelerator, candidates in judged.items():
        for candidate in candidates:
            chosen = {("accelerator", ""): accelerator, **_values(footprints[accelerator], candidate)}
            for place, value in chosen.items():
                groups.setdefault(place, {}).setdefault(value, []).append(candidate)
    return [
        Setting(
            place[0],
            place[1],
            value,
            len(members),
            _over(members, max, min),
            _over(members, statistics.median, statistics.median),
        )
        for place, values in groups.items()
        if len(values) > 1 and place[1] not in _NO_CHOICES
        for value, members in values.items()
    ]


def searched_settings(
    footprints: Mapping[str, Footprint], judged: Mapping[str, Sequence[Candidate]]
) -> dict[tuple[str, str], list[str]]:
    """Return what tells each candidate from the others: `setting = value`, and its passes where these differ."""
    everyone = [candidate for candidates in judged.values() for candidate in candidates]
    values = {_key(one): _values(footprints[one.accelerator], one) for one in everyone}
    passes = {_key(one): _passes(footprints[one.accelerator], one) for one in everyone}
    tried: dict[tuple[str, str], set[str]] = {}
    for chosen in values.values():
        for place, value in chosen.items():
            tried.setdefault(place, set()).add(value)
    differ = [place for place, some in tried.items() if len(some) > 1 and place[1] not in _NO_CHOICES]
    names = {
        place: place[1] if [key for _, key in differ].count(place[1]) == 1 else " ".join(place) for place in differ
    }
    shown = {
        key: [f"{names[place]} = {_plain(chosen[place])}" for place in differ if place in chosen]
        for key, chosen in values.items()
    }
    if len(set(passes.values())) > 1:
        return {key: [" + ".join(passes[key]), *lines] for key, lines in shown.items()}
    return shown


def write(
    path: Path,
    found: Found,
    judged: Mapping[str, Sequence[Candidate]],
    packaged: Sequence[Candidate],
    goals: Mapping[str, Goal],
    reasons: Mapping[str, str],
    units: Mapping[str, str],
) -> None:
    """Write the page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("aml_olive_optimizer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("optimization.html.j2")
    path.write_text(page.render(**context(found, judged, packaged, goals, reasons, units)) + "\n", encoding="utf-8")


def context(
    found: Found,
    judged: Mapping[str, Sequence[Candidate]],
    packaged: Sequence[Candidate],
    goals: Mapping[str, Goal],
    reasons: Mapping[str, str],
    units: Mapping[str, str],
) -> dict[str, Any]:
    """Return what the template shows: texts and numbers in words, nothing left to work out."""
    names = _metric_names(found, judged)
    shown = rows(judged, packaged)
    searched = searched_settings(found.footprints, judged)
    baselines = {name: footprint.input_metrics for name, footprint in found.footprints.items()}
    return {
        "metrics": [
            {
                "name": name,
                "unit": units.get(name, ""),
                "goal": f"{goals[name].kind} {goals[name].value:g}" if name in goals else "",
            }
            for name in names
        ],
        "baselines": [
            {"accelerator": accelerator, "values": [_value(metrics.get(name)) for name in names]}
            for accelerator, metrics in baselines.items()
            if metrics
        ],
        "rows": [
            {
                "rank": row.rank,
                "accelerator": row.candidate.accelerator,
                "model_id": row.candidate.node.model_id,
                "values": [
                    _against(
                        row.candidate.node.metrics.get(name),
                        baselines[row.candidate.accelerator].get(name),
                        is_time=name in units,
                    )
                    for name in names
                ],
                "settings": searched[_key(row.candidate)],
                "size": "" if row.size_bytes is None else f"{row.size_bytes / MEGABYTE:.3g} MB",
                "misses": "; ".join(map(str, row.candidate.misses)),
                "on_frontier": row.on_frontier,
                "is_packaged": row.is_packaged,
            }
            for row in shown
        ],
        "settings": [
            {
                "what": " ".join(filter(None, (setting.pass_type, setting.setting))),
                "value": _plain(setting.value),
                "count": setting.count,
                "values": [_both(setting.best.get(name), setting.median.get(name)) for name in names],
            }
            for setting in settings(found.footprints, judged)
        ],
        "times": _times(found),
        "pruned": summary.pruned(found),
        "total_sec": f"{found.duration_sec:.1f}",
        "reasons": [f"{name}: {reason}" for name, reason in reasons.items()],
        "nearest": _nearest(judged) if not packaged else "",
        "failures": sorted({text for texts in found.failures.values() for text in texts}),
    }


def _values(footprint: Footprint, candidate: Candidate) -> dict[tuple[str, str], str]:
    """Return the value of every setting, by pass and name, with which a candidate was made."""
    return {
        (node.pass_type, key): json.dumps(value, sort_keys=True, default=str)
        for node in footprint.chain(candidate.node.model_id)
        if node.pass_type is not None
        for key, value in (node.pass_config or {}).items()
    }


def _passes(footprint: Footprint, candidate: Candidate) -> tuple[str, ...]:
    made = [node.pass_type for node in footprint.chain(candidate.node.model_id) if node.pass_type is not None]
    return tuple(reversed(made))


def _plain(value: str) -> str:
    return value.strip('"')


def _metric_names(found: Found, judged: Mapping[str, Sequence[Candidate]]) -> list[str]:
    seen: dict[str, int] = {}
    for metrics in (
        *(footprint.input_metrics for footprint in found.footprints.values()),
        *(candidate.node.metrics for candidates in judged.values() for candidate in candidates),
    ):
        for name, measured in metrics.items():
            seen[name] = measured.priority if measured.priority > 0 else 1000
    return sorted(seen, key=lambda name: (seen[name], name))


def _times(found: Found) -> list[dict[str, str]]:
    totals: dict[str, tuple[int, float]] = {}
    for footprint in found.footprints.values():
        for node in footprint.nodes.values():
            if node.pass_type is not None and node.duration_sec is not None:
                count, total = totals.get(node.pass_type, (0, 0.0))
                totals[node.pass_type] = (count + 1, total + node.duration_sec)
    rest = found.duration_sec - sum(total for _, total in totals.values())
    lines = [{"what": name, "count": str(count), "seconds": f"{total:.2f}"} for name, (count, total) in totals.items()]
    return [*lines, {"what": "measuring, loading, starting", "count": "", "seconds": f"{max(rest, 0.0):.2f}"}]


def _nearest(judged: Mapping[str, Sequence[Candidate]]) -> str:
    nearest = nearest_miss([candidate for candidates in judged.values() for candidate in candidates])
    if nearest is None:
        return ""
    return f"{nearest.accelerator} {nearest.node.model_id}: {', '.join(map(str, nearest.misses))}"


def _value(measured: Measurement | None) -> str:
    return "" if measured is None else f"{measured.value:.5g}"


def _against(measured: Measurement | None, baseline: Measurement | None, *, is_time: bool) -> str:
    if measured is None or baseline is None or not baseline.value:
        return _value(measured)
    if not measured.higher_is_better and measured.value:
        better = baseline.value >= measured.value
        times = baseline.value / measured.value if better else measured.value / baseline.value
        words = ("faster", "slower") if is_time else ("better", "worse")
        return f"{measured.value:.5g} ({times:.3g} times {words[0] if better else words[1]} than the input model)"
    return f"{measured.value:.5g} ({measured.value - baseline.value:+.3g})"


def _both(best: float | None, median: float | None) -> str:
    return "" if best is None or median is None else f"{best:.5g} / {median:.5g}"


def _over(members: Sequence[Candidate], higher: Any, lower: Any) -> dict[str, float]:
    values: dict[str, list[Measurement]] = {}
    for member in members:
        for name, measured in member.node.metrics.items():
            if not measured.is_number:
                continue
            values.setdefault(name, []).append(measured)
    return {
        name: float((higher if some[0].higher_is_better else lower)(one.value for one in some))
        for name, some in values.items()
    }


def _merits(candidate: Candidate) -> tuple[float, ...]:
    found = sorted((one.priority, name, one.merit) for name, one in candidate.node.metrics.items() if one.priority > 0)
    return tuple(merit for _, _, merit in found)


def _key(candidate: Candidate) -> tuple[str, str]:
    return candidate.accelerator, candidate.node.model_id


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


def _size_bytes(candidate: Candidate) -> int | None:
    config = (candidate.node.model_config or {}).get("config") or {}
    path = config.get("model_path")
    return onnx_files.size_bytes(Path(path), config.get("onnx_file_name")) if path else None
