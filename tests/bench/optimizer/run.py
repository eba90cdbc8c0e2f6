#!/usr/bin/env python3
"""What the optimizer costs beside Olive itself, and what it wins: MiniLM, searched, timed, deployed, and compared.

    .venv/olive/bin/python tests/bench/optimizer/run.py

Four parts and one table of the goals; nothing is asserted, everything is written to results.json in the work folder:

1. the wall time, and the processor time, of the tool and of Olive called directly on the same search, each from an
   empty cache (other load on the machine changes the former a lot and the latter little);
2. PyTorch, ONNX Runtime as exported (both execution providers) and the model that the search found, in-process, batch
   1, 128 tokens, on as many cores as asked (2): each in its own process, taking turns, so that a disturbance of the
   machine strikes all of them; ratios are formed within a turn, and their median and quartiles are given;
3. how far the found model's embeddings of the held-out sentences, which the search never sees, are from the original's;
4. PyTorch, the model as exported and the found model, each deployed by aml_online_endpoints_deployer behind the local
   control plane's gateway and profiled by aml_wrk_profiler over one connection, in turns (endpoints.py).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
EXAMPLE = REPOSITORY / "job-templates" / "minilm"
IDLE_SAMPLE_SEC = 3.0
IDLE_ENOUGH = (
    0.9  # of the processors' time; on busier ones PyTorch loses far more than ONNX Runtime, and ratios flatter
)
PAUSE_SEC = 0.02  # between turns: lets a runtime's spinning threads go to sleep before the next one is timed
FOUND = "optimized"
LOADS = {"full_length": "128 tokens", "mixed": "mixed payload"}


@dataclass(frozen=True)
class Spent:
    """What one search took."""

    wall_sec: float
    cpu_sec: float


@dataclass(frozen=True)
class Searches:
    """The same search by the tool and by Olive alone, in the order in which they were run."""

    tool: list[Spent]
    olive: list[Spent]


@dataclass(frozen=True)
class Timed:
    """One contender: the quickest run of each turn, in the order of the turns."""

    name: str
    turns_ms: list[float]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.turns_ms)

    def speedup_over(self, other: Timed) -> tuple[float, float, float]:
        """Return the quartiles (25, 50, 75 %) of how many times faster this one was, turn by turn."""
        ratios = [theirs / ours for ours, theirs in zip(self.turns_ms, other.turns_ms, strict=True)]
        lower, middle, upper = statistics.quantiles(ratios, n=4)
        return lower, middle, upper


class Contender:
    """A process of its own that loads one form of the model and runs it when told to."""

    def __init__(self, name: str, model: Path, settings: Mapping[str, Any], cores: int) -> None:
        self.name = name
        command = [sys.executable, str(HERE / "contender.py"), name, str(model), json.dumps(settings), str(cores)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, question: str) -> Any:
        """Return the answer to `times RUNS`, `embeddings FOLDER` or `quality …`."""
        assert self._process.stdin is not None
        print(question, file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with exit code {self._process.wait()}")
        return json.loads(line)


def idle_share() -> float:
    """Return which share of the processors' time is nobody's, over a few seconds in which this process does nothing."""

    def ticks() -> list[int]:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]  # guests' time is in these already
        return [int(field) for field in fields]

    before = ticks()
    time.sleep(IDLE_SAMPLE_SEC)
    spent = [after - earlier for after, earlier in zip(ticks(), before, strict=True)]
    return (spent[3] + spent[4]) / sum(spent)  # idle, and waiting for a disk


def fetched(work: Path) -> Path:
    """Return the folder with the model, fetched unless an earlier run did."""
    model = work / "model"
    if not model.exists():
        subprocess.run([sys.executable, EXAMPLE / "train.py", "--output", model], check=True)
    return model


def search_by_tool(work: Path, example: Path, model: Path, turn: int) -> tuple[Spent, Path]:
    """Run the tool as a job does, from an empty cache; return what it took and its folder."""
    folder = work / f"tool-{turn}"
    flags: dict[str, Path] = {
        "config_path": example / "optimizer.json",
        "model_path": model,
        "code": example / "code",
        "optimized_parameters_path": folder / "optimized_parameters",
        "optimized_model_path": folder / "optimized_model",
    }
    words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    return _timed([sys.executable, "-m", "aml_olive_optimizer", *words], folder), folder


def search_by_olive(work: Path, example: Path, model: Path, turn: int) -> Spent:
    """Run the same search by Olive alone, from an empty cache; return what it took."""
    folder = work / f"olive-{turn}"
    command = [sys.executable, str(HERE / "direct.py"), str(example), str(model)]
    return _timed(command, folder)


def _timed(command: Sequence[str], folder: Path) -> Spent:
    folder.mkdir(parents=True)
    print(f"  {folder.name} ...", end=" ", flush=True)
    started, cpu_before = time.monotonic(), _cpu_sec_of_children()
    code = _logged(command, folder, folder / "log.txt")
    spent = Spent(time.monotonic() - started, _cpu_sec_of_children() - cpu_before)
    if code:
        raise SystemExit(f"exit code {code}; its log is {folder / 'log.txt'}")
    print(f"{spent.wall_sec:.1f} s, processor {spent.cpu_sec:.1f} s", flush=True)
    return spent


def _logged(command: Sequence[str], folder: Path, log_path: Path) -> int:
    """Return the exit code of a command run in a folder; when this script is ended, the command may still tidy up."""
    with log_path.open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _cpu_sec_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def exported(work: Path, model: Path) -> Path:
    """Return a folder with the model as PyTorch's exporter makes it, and its tokenizer, ready to be deployed."""
    folder = work / "exported_model"
    folder.mkdir()
    subprocess.run([sys.executable, HERE / "contender.py", "export", model, folder / "model.onnx"], check=True)
    shutil.copy(model / "tokenizer.json", folder)
    return folder


def race(model: Path, plain: Path, found: Path, given: argparse.Namespace) -> tuple[list[Timed], dict[str, Any]]:
    """Time all contenders in turns; return their times, and what the found model's embeddings are worth."""
    parameters = json.loads((found / "optimized_parameters" / "optimized_parameters.json").read_text())
    turns: dict[str, list[float]] = {}
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(Contender(name, form, settings, given.cores))
            for name, form, settings in (
                ("pytorch", model, {}),
                ("onnxruntime-cpu", plain / "model.onnx", _as_exported("CPU")),
                ("onnxruntime-openvino", plain / "model.onnx", _as_exported("OpenVINO")),
                (FOUND, found / "optimized_model" / "model.onnx", parameters),
            )
        ]
        for _ in range(given.turns):
            for contender in contenders:
                time.sleep(PAUSE_SEC)
                turns.setdefault(contender.name, []).append(min(contender.ask(f"times {given.runs}")))
        reference = contenders[0].ask(f"embeddings {json.dumps(str(model))}")
        quality = contenders[-1].ask(f"quality {json.dumps({'folder': str(model), 'reference': reference})}")
    return [Timed(name, times) for name, times in turns.items()], {**quality, "parameters": parameters}


def _as_exported(provider: str) -> dict[str, Any]:
    return {"execution_provider": [[f"{provider}ExecutionProvider", {}]], "session_options": {}}


def deployed(work: Path, model: Path, plain: Path, found: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Deploy three forms of the model and profile them; return what endpoints.py measured in the tools' environment."""
    payload, folder = work / "payload.jsonl", work / "endpoints"
    subprocess.run([sys.executable, HERE / "contender.py", "payload", model, payload], check=True)
    command = [given.tools_python.absolute(), HERE / "endpoints.py", folder, payload]
    command += ["--pytorch", model, "--exported", plain, "--found", found]
    command += ["--held_out", EXAMPLE / "code" / "held_out.txt"]
    command += ["--turns", given.endpoint_turns, "--duration_sec", given.endpoint_sec]
    print("  endpoints ...", end=" ", flush=True)
    started = time.monotonic()
    code = _logged([str(word) for word in command], work, work / "endpoints.txt")
    if code:
        raise SystemExit(f"exit code {code}; the log is {work / 'endpoints.txt'}")
    print(f"{time.monotonic() - started:.1f} s", flush=True)
    measured: dict[str, Any] = json.loads((folder / "endpoints.json").read_text())
    return measured


def rates(measured: Mapping[str, Any], load: str, deployment: str) -> list[float]:
    """Return the requests per second of a deployment, turn by turn."""
    return [turn["requests_per_sec"] for turn in measured["turns"][load][deployment]]


def endpoint_speedup(measured: Mapping[str, Any], load: str, other: str) -> float:
    """Return how many times the requests of another deployment the found model answers: the median over the turns."""
    pairs = zip(rates(measured, load, FOUND), rates(measured, load, other), strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def costs(searches: Searches) -> str:
    """Return the table of what the searches took."""
    rows = []
    for name, runs in (("aml_olive_optimizer", searches.tool), ("Olive directly", searches.olive)):
        row = [name]
        for unit in ("wall_sec", "cpu_sec"):
            mine, direct = (
                statistics.median(getattr(spent, unit) for spent in which) for which in (runs, searches.olive)
            )
            row += [f"{mine:.1f}", f"{mine / direct:.2f}"]
        rows.append(row)
    headers = ["search", "wall time s", "ratio", "processor time s", "ratio"]
    return _table(rows, headers)


def times(timed: Sequence[Timed]) -> str:
    """Return the table of the race in-process."""
    rows = []
    for entry in timed:
        lower, middle, upper = _found(timed).speedup_over(entry)
        rows.append([entry.name, f"{entry.median_ms:.2f}", f"{middle:.2f}", f"{lower:.2f} to {upper:.2f}"])
    return _table(rows, ["in-process, 128 tokens", "ms (median)", "optimized is faster by", "quartiles"])


def answers(measured: Mapping[str, Any]) -> str:
    """Return the table of the deployed models."""
    rows = []
    for load, described in LOADS.items():
        for deployment, turns in measured["turns"][load].items():
            rate = statistics.median(rates(measured, load, deployment))
            p50 = statistics.median(turn["p50_ms"] for turn in turns)
            ratio = endpoint_speedup(measured, load, deployment)
            row = [f"{deployment}, {described}", f"{rate:.1f}", f"{p50:.2f}", f"{ratio:.2f}"]
            rows.append([*row, f"{measured['mean_cosine'][deployment]:.4f}"])
    headers = ["deployed, one connection", "requests/s", "p50 ms", "optimized is faster by", "mean cosine to pytorch's"]
    return _table(rows, headers)


def goals(timed: Sequence[Timed], quality: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """Return the table that sets each figure beside the goal that was set for it."""
    over = {entry.name: _found(timed).speedup_over(entry)[1] for entry in timed}
    deployed_over = endpoint_speedup(measured, "full_length", "pytorch")
    rows = [
        ["in-process, times faster than PyTorch", over["pytorch"], 4.0],
        ["in-process, times faster than ONNX Runtime as exported (CPU)", over["onnxruntime-cpu"], 2.0],
        ["deployed, times the requests/s of PyTorch, 128 tokens", deployed_over, 2.5],
        ["held-out sentences, mean cosine to the original", quality["mean_cosine"], 0.99],
    ]
    return _table(
        [[name, f"{value:.4g}", f"{goal:g}", "yes" if value >= goal else "NO"] for name, value, goal in rows],
        ["goal", "measured", "at least", "met"],
    )


def _found(timed: Sequence[Timed]) -> Timed:
    return next(entry for entry in timed if entry.name == FOUND)


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    aligned = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=aligned)


def summary(
    searches: Searches | None, timed: Sequence[Timed], quality: Mapping[str, Any], measured: Mapping[str, Any]
) -> str:
    """Return all tables, the goals' last."""
    parameters = quality["parameters"]
    embedded = (
        f"held-out mean cosine {quality['mean_cosine']:.4f}, smallest {quality['least_cosine']:.4f}; retrieval MRR "
        f"{quality['mrr']:.4f}, original {quality['original_mrr']:.4f}\n"
        f"found: {parameters['execution_provider'][0][0]}, {json.dumps(parameters['session_options'])}"
    )
    parts = [costs(searches)] if searches is not None else []
    return "\n\n".join([*parts, times(timed), embedded, answers(measured), goals(timed, quality, measured)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_folder", type=Path, default=REPOSITORY / ".demo" / "bench-optimizer")
    parser.add_argument("--cores", type=int, default=2, help="that everything is confined to (default: 2)")
    parser.add_argument("--searches", type=int, default=1, help="of each kind, alternating (default: 1)")
    parser.add_argument("--turns", type=int, default=40, help="of each contender (default: 40)")
    parser.add_argument("--runs", type=int, default=10, help="in a turn, of which the quickest counts (default: 10)")
    parser.add_argument("--endpoint_turns", type=int, default=3, help="of each deployment and payload (default: 3)")
    parser.add_argument("--endpoint_sec", type=int, default=6, help="that such a turn takes (default: 6)")
    parser.add_argument("--tools_python", type=Path, default=REPOSITORY / ".venv/tools/bin/python")
    parser.add_argument("--example", type=Path, default=EXAMPLE, help="with another optimizer.json (default: minilm)")
    parser.add_argument("--found", type=Path, help="skip the searches and take this folder of an earlier one, tool-*")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the control plane ends too
    work: Path = given.work_folder.absolute() / time.strftime("%Y%m%dT%H%M%S")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < given.cores:
        parser.error(f"--cores {given.cores}: this process may use {len(allowed)}")
    os.sched_setaffinity(0, allowed[: given.cores])  # and, inherited, whatever is started from here
    work.mkdir(parents=True)
    idle = [idle_share()]
    print(f"idle before: {idle[0]:.0%} of {os.cpu_count()} cores", flush=True)
    models = fetched(given.work_folder.absolute())
    found, searches = given.found, None
    if found is None:
        searches = Searches([], [])
        for turn in range(1, given.searches + 1):
            spent, found = search_by_tool(work, given.example.absolute(), models, turn)
            searches.tool.append(spent)
            searches.olive.append(search_by_olive(work, given.example.absolute(), models, turn))
    model, plain = models / "all-MiniLM-L6-v2", exported(work, models / "all-MiniLM-L6-v2")
    idle.append(idle_share())
    timed, quality = race(model, plain, found.absolute(), given)
    idle.append(idle_share())
    measured = deployed(work, model, plain, found.absolute(), given)
    idle.append(idle_share())
    print("\n" + summary(searches, timed, quality, measured))
    print(f"\nidle between the parts: {', '.join(f'{share:.0%}' for share in idle)}")
    if min(idle) < IDLE_ENOUGH:
        print("The machine was busy with something else: the ratios over PyTorch are too good to be quoted.")
    results = {
        "idle": idle,
        "searches": asdict(searches) if searches else None,
        "timed": [asdict(entry) for entry in timed],
        **quality,
        "endpoints": measured,
    }
    (work / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"results in {work / 'results.json'}")


if __name__ == "__main__":
    main()
