"""The command line: compare, merge, page, devices, fit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aml_tool_core import CriteriaMissed, InputError
from aml_tool_core.main import Parser
from aml_tool_core.outputs import write_json, write_text
from aml_tool_core.report_page import render_report

from aml_report import __version__, devices, prediction, table
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
    _add_devices(commands)
    _add_fit(commands)
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


def _add_devices(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "devices",
        help="put models or machine sizes into one table",
        description="Print what each model used and served on each machine size or device, one per line.",
        allow_abbrev=False,
    )
    command.add_argument(
        "folder",
        metavar="FOLDER",
        type=Path,
        nargs="+",
        help=f"a folder with {devices.REPORT} and, for all columns, {devices.USAGE}",
    )
    command.add_argument("--csv", metavar="FILE", type=Path, help="write the figures for other programs, and for fit")
    command.set_defaults(run=_devices)


def _add_fit(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "fit",
        help="predict a device from a few measurements on it",
        description="Lay a straight line through models measured locally and on a device; predict the others.",
        allow_abbrev=False,
    )
    command.add_argument("local", metavar="LOCAL.csv", type=Path, help="the local measurements, by model")
    command.add_argument("device", metavar="DEVICE.csv", type=Path, help="those on the device: two models or more")
    command.add_argument(
        "--metric",
        metavar="COLUMN",
        default="latency_p50_ms",
        help="the column to predict, of both files (default: %(default)s)",
    )
    command.add_argument("--size", metavar="NAME", help="the local machine size, where the file has several")
    command.add_argument(
        "--check", metavar="MODEL", action="append", default=[], help="keep a measured model back, and predict it"
    )
    command.add_argument(
        "--confidence", metavar="PERCENT", type=_percent, default=95.0, help="of the interval (default: %(default)g)"
    )
    command.set_defaults(run=_fit)


def _devices(given: argparse.Namespace) -> None:
    rows = [devices.read_folder(folder) for folder in given.folder]
    if given.csv is not None:
        write_text(given.csv, devices.as_csv(rows))
    sys.stdout.write("\n".join(devices.table(rows)) + "\n")


def _fit(given: argparse.Namespace) -> None:
    if not 0 < given.confidence < 100:
        raise InputError(f"--confidence {given.confidence:g}: must be more than 0 and less than 100")
    local = devices.read_csv(given.local, given.metric, given.size)
    device = devices.read_csv(given.device, given.metric, None)
    asked = prediction.question(given.metric, local, device, given.check, given.device)
    sys.stdout.write("\n".join(prediction.answer(asked, given.confidence / 100)) + "\n")


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
