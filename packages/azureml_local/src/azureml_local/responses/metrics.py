"""Azure Monitor's metrics of endpoints and deployments."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from azureml_local.exceptions import InvalidRequestError
from azureml_local.models.resource_ids import PROVIDER
from azureml_local.models.store import Resource
from azureml_local.responses.envelope import workspace_of
from azureml_local.responses.paths import DEPLOYMENT, ENDPOINT
from azureml_local.telemetry.catalog import Metric, metrics_of
from azureml_local.telemetry.query import (
    AGGREGATIONS,
    Span,
    TimeSeries,
    evaluate,
    parse_filter,
    parse_span,
)
from azureml_local.telemetry.series import Summary

METRICS = "providers/Microsoft.Insights/metrics"
DEFINITIONS = "providers/Microsoft.Insights/metricDefinitions"


def _resource(request: Request) -> Resource:
    plane, names = workspace_of(request), request.path_params
    endpoint = plane.store.get(plane.endpoint_id(names["endpoint"]))
    return plane.store.get(f"{endpoint.id}/deployments/{names['deployment']}") if "deployment" in names else endpoint


async def get_metrics(request: Request) -> JSONResponse:
    """Answer a metrics query."""
    resource, query = _resource(request), request.query_params
    known = metrics_of(is_deployment="deployment" in request.path_params)
    names = [name.strip() for name in query.get("metricnames", "").split(",") if name.strip()]
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        valid = ",".join(metric.name for metric in known.values())
        raise InvalidRequestError(
            f"Failed to find metric configuration for {', '.join(unknown)}. Valid metrics: {valid}"
        )
    wanted = [known[name.lower()] for name in names] or list(known.values())
    aggregations = [name.strip().lower() for name in query.get("aggregation", "average").split(",") if name.strip()]
    if wrong := [name for name in aggregations if name not in AGGREGATIONS]:
        raise InvalidRequestError(f"Unknown aggregation {', '.join(wrong)}; known: {', '.join(AGGREGATIONS)}.")
    span = parse_span(query.get("timespan"), query.get("interval"), time.time())
    minutes = workspace_of(request).metrics.series(resource.id)
    value = []
    for metric in wanted:
        series = evaluate(minutes, metric, parse_filter(query.get("$filter"), metric), span)
        value.append(_metric_body(resource, metric, series, aggregations))
    return JSONResponse(
        {
            "cost": 0,
            "timespan": f"{_moment(span.start_sec)}/{_moment(span.end_sec)}",
            "interval": _interval(span),
            "value": value,
            "namespace": _namespace(resource),
            "resourceregion": resource.location,
        }
    )


async def get_definitions(request: Request) -> JSONResponse:
    """List what can be asked for."""
    resource = _resource(request)
    definitions = [
        {
            "id": f"{resource.id}/{DEFINITIONS}/{metric.name}",
            "resourceId": resource.id,
            "namespace": _namespace(resource),
            "name": {"value": metric.name, "localizedValue": metric.name},
            "unit": metric.unit,
            "primaryAggregationType": "Average",
            "supportedAggregationTypes": ["Average", "Minimum", "Maximum", "Total", "Count"],
            "metricAvailabilities": [{"timeGrain": "PT1M", "retention": "PT1H"}],
            "dimensions": [{"value": name, "localizedValue": name} for name in metric.dimensions],
        }
        for metric in metrics_of(is_deployment="deployment" in request.path_params).values()
    ]
    return JSONResponse({"value": definitions})


def _metric_body(
    resource: Resource, metric: Metric, series: list[TimeSeries], aggregations: list[str]
) -> dict[str, Any]:
    return {
        "id": f"{resource.id}/{METRICS}/{metric.name}",
        "type": "Microsoft.Insights/metrics",
        "name": {"value": metric.name, "localizedValue": metric.name},
        "displayDescription": metric.name,
        "unit": metric.unit,
        "timeseries": [
            {
                "metadatavalues": [
                    {"name": {"value": name.lower(), "localizedValue": name.lower()}, "value": value}
                    for name, value in one.dimensions
                ],
                "data": [
                    {"timeStamp": _moment(point.start_sec), **_aggregated(point.summary, aggregations)}
                    for point in one.points
                ],
            }
            for one in series
        ],
        "errorCode": "Success",
    }


def _aggregated(summary: Summary | None, aggregations: list[str]) -> dict[str, float]:
    # Azure too answers a minute without samples with its time alone.
    if summary is None or summary.count == 0:
        return {}
    values = {
        "average": summary.total / summary.count,
        "minimum": summary.minimum,
        "maximum": summary.maximum,
        "total": summary.total,
        "count": float(summary.count),
    }
    return {name: values[name] for name in aggregations}


def _moment(at_sec: int) -> str:
    return dt.datetime.fromtimestamp(at_sec, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _interval(span: Span) -> str:
    return "PT1H" if span.interval_sec == 3600 else f"PT{span.interval_sec // 60}M"


def _namespace(resource: Resource) -> str:
    return f"{PROVIDER}/{resource.type.partition('/')[2]}".lower()


ROUTES = [
    Route(f"{owner}/{what}", answer, methods=["GET"])
    for owner in (ENDPOINT, DEPLOYMENT)
    for what, answer in ((METRICS, get_metrics), (DEFINITIONS, get_definitions))
]
