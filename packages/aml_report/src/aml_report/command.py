"""The command line: compare, merge, page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aml_tool_core import CriteriaMissed, InputError
from aml_tool_core.main import Parser
from aml_tool_core.outputs import write_json, write_text
from aml_tool_core.report_page import render_report

from aml_report import __version__, table
from aml_report.comparison import compare, regressions
from aml_report.comparison_page import render_comparison
from aml_report.merge import merge
from aml_report.reading import SCHEMA, read_reports

NAME = "aml_report"


def execute(argv: Sequence[str]) -> None:
    """Run one of the subcommands. Raises the errors of `aml_tool_core.errors`."""
    given = parser().parse_args(argv)
    given.run(given)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    result = Parser(prog=NAME, description="Compare, merge and render the profilers' report.json.", allow_abbrev=False)
    result.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    commands = result.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_compare(commands)
    _add_merge(commands)
    _add_page(commands)
    return result


def _add_compare(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "compare",
        help="hold reports against a base",
        description="Print each metric of a base and of other reports, its change, and whether that is noise.",
        allow_abbrev=False,
    )
    command.add_argument("base", metavar="BASE.json", type=Path, help="the report to compare with")
    command.add_argument("new", metavar="NEW.json", type=Path, nargs="+", help="a report to compare")
    command.add_argument("--html", metavar="FILE", type=Path, help="write the comparison as a page, too")
    command.add_argument(
        "--allow-different",
        action="store_true",
        help="compare reports of different payload, rate, load model, duration or engine all the same",
    )
    command.add_argument(
        "--fail-on-regression",
        metavar="PERCENT",
        type=_percent,
        help="exit 3 when a metric is worse by more than this, other than by noise, or a run is not valid",
    )
    command.set_defaults(run=_compare)


def _add_merge(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "merge",
        help="add up the reports of one run on several machines",
        description="Add up reports of generators that loaded one target at the same time, one per machine.",
        allow_abbrev=False,
    )
    command.add_argument(
        "report", metavar="REPORT.json", type=Path, nargs="+", help="the machines' reports, two or more"
    )
    command.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the merged report.json")
    command.set_defaults(run=_merge)


def _add_page(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "page",
        help="render a report as a page",
        description="Write report.html from a report.json.",
        allow_abbrev=False,
    )
    command.add_argument("report", metavar="REPORT.json", type=Path, help="the report")
    command.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the page")
    command.set_defaults(run=_page)


def _compare(given: argparse.Namespace) -> None:
    base, *others = read_reports([given.base, *given.new])
    comparisons = [compare(base, new, allow_different=given.allow_different) for new in others]
    sys.stdout.write("\n\n".join("\n".join(table.lines(one)) for one in comparisons) + "\n")
    missed = None
    if given.fail_on_regression is not None:
        every = [line for one in comparisons for line in regressions(one, given.fail_on_regression)]
        missed = list(dict.fromkeys(every))
    if given.html is not None:
        write_text(given.html, render_comparison(comparisons, missed))
    if missed:
        raise CriteriaMissed(missed)


def _merge(given: argparse.Namespace) -> None:
    if len(given.report) < 2:
        raise InputError(f"{given.report[0]}: nothing to merge it with; give two reports or more")
    whole = merge(read_reports(given.report))
    write_json(given.output, whole, SCHEMA)
    if "sla" in whole:
        missed = [one for one in whole["sla"]["criteria"] if not one["met"]]
        reasons = [
            f"{given.output}: SLA missed: {one['metric']}: {one['value']}, limit {one['limit']}" for one in missed
        ]
        reasons += [f"{given.output}: not valid: {reason}" for reason in whole["verdict"]["reasons"]]
        if reasons:
            raise CriteriaMissed(reasons)


def _page(given: argparse.Namespace) -> None:
    (report,) = read_reports([given.report])
    write_text(given.output, render_report(report.document))


def _percent(text: str) -> float:
    try:
        percent = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of percent") from None
    if not 0 <= percent < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage of 0 or more")
    return percent
