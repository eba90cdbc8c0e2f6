"""A target that its endpoint completes; what Azure does not give never fails a run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import pytest
from aml_tool_core import ToolError
from aml_tool_core.azure import arm, monitor
from aml_tool_core.azure.endpoint import EndpointTarget, Machines
from aml_tool_core.azure.monitor import Metric, ResourceUsage, Sample
from aml_tool_core.profiling import deployment
from aml_tool_core.profiling.deployment import Deployment
from aml_tool_core.profiling.load import concurrency
from aml_tool_core.profiling.target import target_of

NAMES = {
    "subscription_id": "s", "resource_group": "g", "workspace_name": "w", "endpoint_name": "e", "deployment_name": "d",
}  # fmt: skip
AT = datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc)


def endpoint(**machines: Any) -> EndpointTarget:
    facts: dict[str, Any] = {
        "sku": "Standard_F8s_v2", "instance_count": 2, "worker_count": 3, "max_concurrent_requests_per_instance": 4
    }  # fmt: skip
    return EndpointTarget(
        scoring_uri="https://e.example/score",
        headers={"Authorization": "Bearer k3y-of-endpoint", "azureml-model-deployment": "d"},
        location="eastus2",
        endpoint_id="/e",
        deployment_name="d",
        deployment_id="/e/d",
        machines=Machines(**facts | machines),
        model_sha256="a" * 64,
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Answer for the endpoint, and note what was asked."""
    calls: list[Mapping[str, Any]] = []

    def ask(settings: Mapping[str, Any]) -> EndpointTarget:
        calls.append(settings)
        return endpoint()

    monkeypatch.setattr(deployment, "_ask", ask)
    return calls


def resolve(settings: Mapping[str, Any], *, concurrency_given: bool = True) -> Deployment:
    return deployment.resolve(settings, "t.json", concurrency_given=concurrency_given)


def test_names_alone_are_completed_by_the_endpoint(asked: list[Mapping[str, Any]]) -> None:
    found = resolve(NAMES, concurrency_given=False)
    target = found.target
    assert len(asked) == 1
    assert target.uri == "https://e.example/score"
    assert target.headers == {"Authorization": "Bearer k3y-of-endpoint", "azureml-model-deployment": "d"}
    assert (target.sku, target.location, target.instance_count) == ("Standard_F8s_v2", "eastus2", 2)
    assert (found.resource_id, found.model_sha256) == ("/e/d", "a" * 64)
    assert concurrency(None, target, required=True, place="") == 4


def test_what_the_file_says_wins(asked: list[Mapping[str, Any]]) -> None:
    own = {
        **NAMES, "scoring_uri": "http://127.0.0.1:1/x", "scoring_headers": {}, "sku": "own", "worker_count": 7,
        "max_concurrent_requests_per_instance": 9,
    }  # fmt: skip
    target = resolve(own, concurrency_given=False).target
    assert len(asked) == 1, "location and instance_count are missing"
    assert (target.uri, target.headers, target.sku) == ("http://127.0.0.1:1/x", {}, "own")
    assert (target.worker_count, target.max_concurrent_requests_per_instance) == (7, 9)
    assert target.location == "eastus2"


@pytest.mark.parametrize("missing", ["scoring_uri", "scoring_headers"])
def test_without_uri_or_headers_azures_refusal_ends_the_run(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def ask(_: object) -> EndpointTarget:
        raise ToolError("endpoint e: Azure answered 404")

    monkeypatch.setattr(deployment, "_ask", ask)
    settings = {**NAMES, "scoring_uri": "http://127.0.0.1:1/", "scoring_headers": {}}
    del settings[missing]
    with pytest.raises(ToolError, match="Azure answered 404"):
        resolve(settings)
    assert resolve({**NAMES, "scoring_uri": "http://127.0.0.1:1/", "scoring_headers": {}}).target.sku is None


def a_deployment(**settings: Any) -> Deployment:
    facts = {**NAMES, "scoring_uri": "http://127.0.0.1:1/", "sku": "F8", "location": "eastus2", **settings}
    return Deployment(target_of(facts, "t.json"), {**facts, "identity_access_token": "opaque-token"})


def test_vcpus_are_asked_for_the_size_and_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm, "vcpus", lambda workspace, _credential, location, sku: 8 if (location, sku) else None)
    assert deployment.vcpus(a_deployment()) == (8, None)


def test_why_there_are_no_vcpus_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise ToolError("machine sizes of eastus2: Azure answered 403")

    monkeypatch.setattr(arm, "vcpus", refuse)
    assert deployment.vcpus(a_deployment()) == (
        None, "the vCPUs of F8 cannot be asked: machine sizes of eastus2: Azure answered 403",
    )  # fmt: skip
    monkeypatch.setattr(arm, "vcpus", lambda *_: None)
    assert deployment.vcpus(a_deployment()) == (None, "eastus2 knows no machine size F8")
    bare = Deployment(target_of({"scoring_uri": "http://127.0.0.1:1/"}, "t.json"), {})
    assert deployment.vcpus(bare) == (None, None)


def test_usage_is_that_of_the_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample(AT, 50.0, 60.0, 40.0)
    ids: list[str] = []

    def metrics(_credential: object, resource_id: str, *_: object) -> ResourceUsage:
        ids.append(resource_id)
        metrics = {"CpuUtilizationPercentage": Metric("Percent", (sample,))}
        return ResourceUsage(metrics, ("one minute is late",), whole_minutes=False)

    monkeypatch.setattr(monitor, "deployment_metrics", metrics)
    usage = deployment.usage(a_deployment(), AT, AT)
    assert ids[0].endswith("/onlineEndpoints/e/deployments/d")
    assert usage.reasons == ("one minute is late",)
    assert not usage.whole_minutes
    assert usage.metrics is not None
    assert usage.metrics["CpuUtilizationPercentage"]["average"] == 50


def test_why_there_is_no_usage_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "deployment_metrics", lambda *_: ResourceUsage({}, ("no whole minute",)))
    assert deployment.usage(a_deployment(), AT, AT) == deployment.Usage(None, ("no whole minute",))
    bare = Deployment(target_of({"scoring_uri": "http://127.0.0.1:1/"}, "t.json"), {})
    assert deployment.usage(bare, AT, AT).reasons == ("the scoring target names no endpoint_name and deployment_name",)
    monkeypatch.delenv("AZUREML_ARM_SUBSCRIPTION", raising=False)
    nowhere = a_deployment()
    nowhere = Deployment(
        nowhere.target, {key: value for key, value in nowhere.settings.items() if key != "subscription_id"}
    )
    (reason,) = deployment.usage(nowhere, AT, AT).reasons
    assert "subscription_id not given" in reason


def facts_of(uri: str = "https://e/score", model: str | None = None, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    settings = {"scoring_uri": uri, "scoring_headers": named}
    return deployment.target_facts(Deployment(target_of(settings, "t.json"), settings, model_sha256=model))


def test_another_deployment_behind_the_same_address_is_another_target() -> None:
    assert facts_of(azureml_model_deployment="blue") != facts_of(azureml_model_deployment="green")
    assert facts_of(Content_Type="text/csv") != facts_of(Content_Type="text/plain")
    assert facts_of(Host="a") != facts_of(host="b")
    assert facts_of(model="a" * 64) != facts_of(model="b" * 64)
    assert facts_of("https://e/score?model=a") != facts_of("https://e/score?model=b")


def test_another_key_for_the_same_target_is_not() -> None:
    assert facts_of(Authorization="Bearer old") == facts_of(Authorization="Bearer new")
    assert facts_of("https://e/score?v=1&code=old&api-key=old") == facts_of("https://e/score?v=1&code=new&api-key=new")
    assert facts_of(Host="a") == facts_of(host="a")
