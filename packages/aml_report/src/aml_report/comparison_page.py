"""A comparison as an HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from aml_tool_core.report_page import Banner, Cell, Drawing, Measured, Section, Table, Tone, render_page
from aml_tool_core.report_page.figures import Figure, number
from aml_tool_core.report_page.percentile_chart import percentile_drawing
from aml_tool_core.report_page.report import moment

from aml_report import __version__
from aml_report.comparison import Change, Comparison, Direction, shown_change
from aml_report.noise import chance_of_separation, runs_of
from aml_report.reading import Report


def render_comparison(comparisons: Sequence[Comparison], missed: Sequence[str] | None) -> str:
    """Return the page of one or more reports against the same base. `missed`: the gate's lines, None without a gate."""
    base = comparisons[0].base
    reports = [base, *(comparison.new for comparison in comparisons)]
    sections = [
        _verdict(comparisons, missed),
        *(_metrics(comparison, index) for index, comparison in enumerate(comparisons, 1)),
        _curves(reports),
        _reports(reports),
    ]
    return render_page(
        title="Comparison of reports",
        subtitle=f"{', '.join(comparison.new.name for comparison in comparisons)} against {base.name}",
        sections=sections,
        generator=f"aml_report {__version__}",
    )


def _verdict(comparisons: Sequence[Comparison], missed: Sequence[str] | None) -> Section:
    banners = []
    if missed is not None:
        banners.append(
            Banner(Tone.BAD, "Regression: the gate is not passed", missed)
            if missed
            else Banner(Tone.GOOD, "No regression: the gate is passed")
        )
    reports = {report.name: report for one in comparisons for report in (one.base, one.new)}
    for report in reports.values():
        verdict = report.document["verdict"]
        if not verdict["valid"]:
            banners.append(Banner(Tone.BAD, f"{report.name} is not valid", verdict["reasons"]))
    for one in comparisons:
        certain = [change for change in one.changes if change.is_certain]
        better = [change.metric.title for change in certain if change.direction is Direction.BETTER]
        worse = [change.metric.title for change in certain if change.direction is Direction.WORSE]
        tone = Tone.BAD if worse and not better else Tone.GOOD if better and not worse else Tone.PLAIN
        reasons = [f"better: {', '.join(better)}"] if better else []
        reasons += [f"worse: {', '.join(worse)}"] if worse else []
        banners.append(
            Banner(
                tone,
                f"{one.new.name}: {len(better)} metrics better, {len(worse)} worse, outside the noise",
                [*reasons, *(f"not alike, compared all the same: {each}" for each in one.unlike)],
            )
        )
    return Section("verdict", "Verdict", banners=banners)


def _metrics(comparison: Comparison, index: int) -> Section:
    rows: list[list[Cell]] = [
        [_title(change), _value(change.base), _value(change.new), _changed(change)] for change in comparison.changes
    ]
    table = Table("Metrics", ("Metric", "Base", "New", "Change"), rows, [*map(_tone, comparison.changes)])
    return Section(
        f"metrics-{index}", f"{comparison.new.name} against {comparison.base.name}", intro=_noise_intro(comparison),
        tables=[table], absent=[*(f"Differs: {one}" for one in comparison.differences), *comparison.cautions],
    )  # fmt: skip


def _noise_intro(comparison: Comparison) -> str:
    counts = [len(runs_of(report.document)) for report in (comparison.base, comparison.new)]
    if min(counts) >= 2:
        chance = 100 * chance_of_separation(*counts)
        return (
            f"Noise is the spread between the repeated runs, {counts[0]} and {counts[1]}: a change is outside it when "
            f"the two spreads share no value. Of runs of one and the same system, {chance:.2g} % look so by chance."
        )
    return (
        "The runs were not repeated, so what is random from run to run is not known. Where a metric has a 95 % "
        "interval within its run, a change is outside the noise when the two intervals share no value; elsewhere it "
        "cannot be told."
    )


def _title(change: Change) -> str:
    return f"{change.metric.title}, {change.metric.unit}" if change.metric.unit else change.metric.title


def _value(value: float | None) -> Cell:
    return "none" if value is None else Figure(value, "", number(value))


def _changed(change: Change) -> Cell:
    if change.base is None or change.new is None or change.judgement is None:
        return "only one report has it"
    if change.base == change.new:
        return "none"
    word = f"{change.direction.value}, {change.judgement}"
    return Measured(Figure(change.new - change.base, "", shown_change(change)), remark=word)


def _tone(change: Change) -> Tone:
    if not change.is_certain:
        return Tone.PLAIN
    return {Direction.BETTER: Tone.GOOD, Direction.WORSE: Tone.BAD}.get(change.direction, Tone.PLAIN)


def _curves(reports: Sequence[Report]) -> Section:
    histograms = {report.name: report.latency for report in reports if report.latency.total}
    drawings: list[Drawing] = [percentile_drawing(histograms)] if histograms else []
    absent = [f"{report.name}: no request was answered." for report in reports if not report.latency.total]
    return Section("latency", "Latency by percentile", drawings=drawings, absent=absent)


def _reports(reports: Sequence[Report]) -> Section:
    rows: list[list[Cell]] = [
        [
            report.name,
            moment(report.document["started_at"]),
            f"{report.document['tool']['name']} {report.document['tool']['version']}",
            str(report.document["target"].get("deployment_name") or report.document["target"]["scoring_uri"]),
            "valid" if report.document["verdict"]["valid"] else "not valid",
        ]
        for report in reports
    ]
    table = Table("Reports", ("Report", "Started", "Profiler", "Target", "Verdict"), rows)
    return Section("reports", "Reports", tables=[table])
