"""From two files of measurements to a line, its trustworthiness, and predictions, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_tool_core import InputError

from aml_report.straight_line import Line, Pair, Prediction, fit, left_out, predict, ranks
from aml_report.table import aligned


@dataclass(frozen=True)
class Question:
    """What is to be predicted: models measured locally; those that the device has run too are known."""

    metric: str
    pairs: tuple[Pair, ...]
    # Local values of models that the line is to predict.
    unknown: Mapping[str, float]
    # Of these, what the device has shown: kept from the line, to check it.
    kept_back: Mapping[str, float]


def question(
    metric: str, local: Mapping[str, float], device: Mapping[str, float], check: Sequence[str], device_path: Path
) -> Question:
    """Pair the models of two files. Raises InputError."""
    for model in check:
        if model not in local or model not in device:
            raise InputError(f"--check {model}: both files must have it; the local one has {', '.join(local)}")
    strangers = [model for model in device if model not in local]
    if strangers:
        raise InputError(f"{device_path}: {strangers[0]} is not among the local measurements ({', '.join(local)})")
    pairs = tuple(Pair(model, local[model], device[model]) for model in device if model not in check)
    unknown = {model: value for model, value in local.items() if model not in device or model in check}
    return Question(metric, pairs, unknown, {model: device[model] for model in check})


def answer(asked: Question, confidence: float) -> list[str]:
    """Return the lines of the answer. Raises InputError where there is no line."""
    try:
        line = fit(asked.pairs)
    except ValueError as error:
        raise InputError(f"{asked.metric}: {error}; measure another model on the device") from None
    return [
        f"{asked.metric} on the device = {line.intercept:.6g} + {line.slope:.6g} x local",
        *_trust(asked.pairs, line),
        "",
        *_fitted(asked.pairs, line),
        *(["", *_predicted(asked, line, confidence)] if asked.unknown else []),
    ]


def _trust(pairs: Sequence[Pair], line: Line) -> list[str]:
    told = []
    if line.residual_deviation is None:
        told.append(
            "2 pairs: the line goes through both, so nothing shows its error; measure a third model on the device"
        )
    else:
        explained = "" if line.r_squared is None else f", R^2 {line.r_squared:.5g}"
        told.append(f"{line.pairs} pairs{explained}, residual standard deviation {line.residual_deviation:.4g}")
        off = [abs(value / pair.device - 1) for pair, value in left_out(pairs) if pair.device]
        if off:
            told.append(f"each left out in turn and predicted by the others: off by {max(off):.2%} at most")
    order = ranks(pairs)
    tau = "" if order.tau is None else f" (Kendall's tau-b {order.tau:.3g})"
    count = order.alike + order.opposite + order.tied
    told.append(f"order: {order.alike} of {count} pairs of models stand locally as they do on the device{tau}")
    if line.slope <= 0:
        told.append("WARNING: what is more here is less there: these models do not lie on one line")
    return told


def _fitted(pairs: Sequence[Pair], line: Line) -> list[str]:
    rows = [("measured", "local", "device", "line", "off by")]
    for pair in pairs:
        value = line.at(pair.local)
        rows.append((pair.model, _text(pair.local), _text(pair.device), _text(value), _off(value, pair.device)))
    return aligned(rows, frozenset({1, 2, 3, 4}))


def _predicted(asked: Question, line: Line, confidence: float) -> list[str]:
    percent = f"{100 * confidence:g} %"
    rows = [("predicted", "local", "device", f"{percent} from", "to", "measured", "off by")]
    notes = []
    locals_ = [pair.local for pair in asked.pairs]
    for model, local in asked.unknown.items():
        found = predict(line, local, confidence)
        known = asked.kept_back.get(model)
        rows.append(
            (
                *(model, _text(local), _text(found.value)),
                *_interval(found),
                *(("", "") if known is None else (_text(known), _off(found.value, known))),
            )
        )
        if not min(locals_) <= local <= max(locals_):
            notes.append(f"{model}: lies outside of what was measured ({_text(min(locals_))} to {_text(max(locals_))})")
        if found.value <= 0:
            notes.append(f"{model}: the line gives no possible value there")
    return [*aligned(rows, frozenset(range(1, 7))), *(["", *notes] if notes else [])]


def _interval(found: Prediction) -> tuple[str, str]:
    if found.low is None or found.high is None:
        return "not known", "not known"
    return _text(found.low), _text(found.high)


def _text(value: float) -> str:
    return f"{value:.5g}"


def _off(value: float, truth: float) -> str:
    return f"{value / truth - 1:+.2%}" if truth else "-"
