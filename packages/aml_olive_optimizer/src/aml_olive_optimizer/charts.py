"""The Pareto chart of each accelerator, as a page that needs no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aml_olive_optimizer.footprints import Candidate


def axes(found: Sequence[Candidate]) -> tuple[str, str]:
    """Return the two metrics to draw: by priority, else those only reported; one is drawn over the search's order."""
    priorities: dict[str, float] = {}
    for candidate in found:
        for name, measured in candidate.node.metrics.items():
            priorities[name] = measured.priority if measured.priority > 0 else math.inf
    ranked = sorted(priorities, key=lambda name: (priorities[name], name))
    names = [name for name in ranked if priorities[name] < math.inf] or ranked
    return ("order of the search", names[0]) if len(names) == 1 else (names[0], names[1])


def figure(accelerator: str, found: Sequence[Candidate], units: Mapping[str, str]) -> dict[str, Any]:
    """Return the chart as plotly's own JSON: every candidate, the frontier joined, goals missed shown as crosses.

    `units` has the unit of the metrics that have one, for the axes.
    """
    across, up = axes(found) if any(candidate.node.metrics for candidate in found) else ("", "")

    def point(index: int, candidate: Candidate) -> tuple[float, float]:
        metrics = candidate.node.metrics
        return (metrics[across].value if across in metrics else float(index + 1)), metrics[up].value

    drawn = [
        (candidate, point(index, candidate)) for index, candidate in enumerate(found) if up in candidate.node.metrics
    ]
    frontier = sorted(place for candidate, place in drawn if candidate.on_frontier)
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "name": "candidates",
                "x": [place[0] for _, place in drawn],
                "y": [place[1] for _, place in drawn],
                "text": [_label(candidate, units) for candidate, _ in drawn],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {
                    "size": [12 if candidate.on_frontier else 8 for candidate, _ in drawn],
                    "color": ["#c23b22" if candidate.on_frontier else "#3366aa" for candidate, _ in drawn],
                    "symbol": ["circle" if candidate.meets_goals else "x" for candidate, _ in drawn],
                },
            },
            {
                "type": "scatter",
                "mode": "lines",
                "name": "Pareto frontier",
                "x": [place[0] for place in frontier],
                "y": [place[1] for place in frontier],
                "line": {"color": "#c23b22", "width": 1},
                "hoverinfo": "skip",
            },
        ],
        "layout": {
            "title": {"text": f"{accelerator}: candidates and their Pareto frontier (crosses miss a goal)"},
            "xaxis": {"title": {"text": _with_unit(across, units)}},
            "yaxis": {"title": {"text": _with_unit(up, units)}},
            "width": 1000,
            "height": 600,
        },
    }


def _with_unit(name: str, units: Mapping[str, str]) -> str:
    return f"{name} ({units[name]})" if name in units else name


def _label(candidate: Candidate, units: Mapping[str, str]) -> str:
    metrics = candidate.node.metrics
    lines = [candidate.node.model_id]
    lines += [f"{_with_unit(name, units)}: {found.value:.6g}" for name, found in metrics.items()]
    return "<br>".join(lines + [f"misses {miss}" for miss in candidate.misses])


def write(path: Path, drawing: dict[str, Any]) -> None:
    """Write a figure as a page of its own."""
    import plotly.graph_objects

    plotly.graph_objects.Figure(drawing).write_html(str(path), include_plotlyjs=True, full_html=True)
