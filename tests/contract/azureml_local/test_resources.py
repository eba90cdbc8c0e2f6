"""Endpoints, deployments and their neighbours through the unmodified SDK."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError


def test_endpoint_as_the_service_describes_it(cloud: Any, shared: Any) -> None:
    endpoint = cloud.client.online_endpoints.get("shared-ep")
    assert endpoint.provisioning_state == "Succeeded"
    assert endpoint.location == "eastus"
    assert endpoint.traffic == {"blue": 100}
    assert "shared-ep" in {entry.name for entry in cloud.client.online_endpoints.list()}
    deployment = cloud.client.online_deployments.get("blue", "shared-ep")
    assert deployment.provisioning_state == "Succeeded"
    assert deployment.instance_type == "Standard_F2s_v2"
    assert deployment.instance_count == 1
    assert deployment.request_settings.max_concurrent_requests_per_instance == 1
    assert deployment.request_settings.request_timeout_ms == 2000
    assert deployment.environment_variables["GREETING"] == "hello"
    assert [entry.name for entry in cloud.client.online_deployments.list("shared-ep")] == ["blue"]


def test_logs_tell_what_init_printed(cloud: Any, shared: Any) -> None:
    logs = cloud.client.online_deployments.get_logs("blue", "shared-ep", lines=200)
    assert "weights are [1, 10, 100]" in logs
    assert "0.0.0.0" not in logs
    prepared = cloud.client.online_deployments.get_logs(
        "blue", "shared-ep", lines=50, container_type="storage-initializer"
    )
    assert "model: 1 files" in prepared


def test_absent_things_are_not_found(cloud: Any, shared: Any) -> None:
    with pytest.raises(ResourceNotFoundError):
        cloud.client.online_endpoints.get("absent-ep")
    with pytest.raises(ResourceNotFoundError):
        cloud.client.online_deployments.get("absent", "shared-ep")
    with pytest.raises(ResourceNotFoundError):
        cloud.deploy("absent-ep", "blue")


def test_an_unknown_workspace_is_not_found(plane: Any, credential: Any) -> None:
    from azure.ai.ml import MLClient

    client = MLClient(credential, plane.variables["AZUREML_ARM_SUBSCRIPTION"], "local-rg", "another-ws")
    with pytest.raises(ResourceNotFoundError, match="another-ws"):
        client.online_endpoints.get("shared-ep")


def test_deleting_what_is_absent_succeeds(cloud: Any, shared: Any) -> None:
    cloud.client.online_endpoints.begin_delete("absent-ep").result()
    cloud.client.online_deployments.begin_delete("absent", "shared-ep").result()


def test_an_unknown_instance_type_is_refused(cloud: Any, shared: Any) -> None:
    with pytest.raises(HttpResponseError, match="Standard_Nonsense") as caught:
        cloud.deploy("shared-ep", "green", instance_type="Standard_Nonsense")
    assert caught.value.status_code == 400
    with pytest.raises(ResourceNotFoundError):
        cloud.client.online_deployments.get("green", "shared-ep")


def test_traffic_must_be_whole_and_known(cloud: Any, shared: Any) -> None:
    for weights in ({"blue": 50}, {"blue": 50, "purple": 50}):
        with pytest.raises(HttpResponseError, match="traffic") as caught:
            cloud.traffic("shared-ep", weights)
        assert caught.value.status_code == 400
    assert shared.score().status_code == 200


def test_a_deployment_with_traffic_is_not_deleted(cloud: Any, shared: Any) -> None:
    with pytest.raises(HttpResponseError, match="live traffic"):
        cloud.client.online_deployments.begin_delete("blue", "shared-ep")
    assert shared.score().status_code == 200


def test_a_crash_in_init_fails_the_deployment_and_leaves_its_log(cloud: Any) -> None:
    cloud.endpoint("init-ep")
    with pytest.raises(HttpResponseError, match="crashed or terminated") as caught:
        cloud.deploy("init-ep", "blue", script="crash.py")
    assert caught.value.error is not None and caught.value.error.code == "ResourceNotReady"
    deployment = cloud.client.online_deployments.get("blue", "init-ep")
    assert deployment.provisioning_state == "Failed"
    assert "no weights today" in cloud.client.online_deployments.get_logs("blue", "init-ep", lines=100)

    # A good version repairs it; another bad one leaves the good one serving.
    cloud.deploy("init-ep", "blue")
    cloud.traffic("init-ep", {"blue": 100})
    target = cloud.target("init-ep")
    assert target.score().json()["sum"] == 321
    with pytest.raises(HttpResponseError):
        cloud.deploy("init-ep", "blue", script="crash.py")
    assert target.score().json()["sum"] == 321

    # The last deployment of an endpoint can go too.
    cloud.traffic("init-ep", {"blue": 0})
    cloud.client.online_deployments.begin_delete("blue", "init-ep").result()
    with pytest.raises(ResourceNotFoundError):
        cloud.client.online_deployments.get("blue", "init-ep")
    cloud.delete("init-ep")
    with pytest.raises(ResourceNotFoundError):
        cloud.client.online_endpoints.get("init-ep")


def test_an_environment_that_cannot_be_built_fails_with_pips_words(cloud: Any) -> None:
    cloud.endpoint("build-ep")
    conda = "dependencies:\n- pip:\n  - azureml-inference-server-http==0.0.0.404\n"
    with pytest.raises(HttpResponseError, match="No matching distribution") as caught:
        cloud.deploy("build-ep", "blue", conda=conda)
    assert caught.value.error is not None and caught.value.error.code == "EnvironmentBuildFailed"
    assert "No matching distribution" in cloud.client.online_deployments.get_logs("blue", "build-ep", lines=20)
    cloud.delete("build-ep")


def test_conda_packages_are_reported_as_not_installed(cloud: Any) -> None:
    cloud.endpoint("conda-ep")
    conda = "dependencies:\n- libjpeg-turbo=3\n- pip:\n  - azureml-inference-server-http\n"
    cloud.deploy("conda-ep", "blue", conda=conda)
    logs = cloud.client.online_deployments.get_logs("blue", "conda-ep", lines=200)
    assert "libjpeg-turbo=3: a conda package, not installed" in logs
    cloud.delete("conda-ep")


def test_sizes_are_listed(cloud: Any) -> None:
    sizes = {size.name: size for size in cloud.client.compute.list_sizes()}
    # The SDK puts what it read into attributes of the service's spelling, and leaves its own (v_cp_us) None.
    assert vars(sizes["Standard_F8s_v2"])["vCPUs"] == 8
    assert vars(sizes["Standard_DS3_v2"])["memoryGB"] == 14
    assert sizes["Standard_NC24ads_A100_v4"].gpus == 1


def test_sizes_have_their_vcpus(plane: Any, arm: httpx.Client) -> None:
    subscription = plane.variables["AZUREML_ARM_SUBSCRIPTION"]
    answer = arm.get(
        f"/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/eastus/vmSizes",
        params={"api-version": "2024-10-01"},
    )
    vcpus = {size["name"]: size["vCPUs"] for size in answer.json()["value"]}
    assert vcpus["Standard_F8s_v2"] == 8
    assert vcpus["Standard_DS3_v2"] == 4


@pytest.mark.parametrize("authorization", [None, "Bearer nonsense", "Basic abc"])
def test_without_a_good_token_the_answer_is_401(arm: httpx.Client, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {"Authorization": ""}
    answer = arm.get("/subscriptions/any", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in ("AuthenticationFailed", "InvalidAuthenticationToken")


def test_the_sdk_reports_a_bad_token(plane: Any) -> None:
    from azure.ai.ml import MLClient
    from azure.core.credentials import AccessToken

    class Fixed:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return AccessToken("nonsense", 4102444800)

    client = MLClient(Fixed(), plane.variables["AZUREML_ARM_SUBSCRIPTION"], "local-rg", "local-ws")
    with pytest.raises(ClientAuthenticationError):
        client.online_endpoints.get("shared-ep")


def test_the_identity_endpoint_wants_its_secret(plane: Any) -> None:
    query = {"api-version": "2017-09-01", "resource": "https://ml.azure.com"}
    url = plane.variables["MSI_ENDPOINT"]
    assert httpx.get(url, params=query, trust_env=False).status_code == 401
    assert httpx.get(url, params=query, headers={"secret": "wrong"}, trust_env=False).status_code == 401
    headers = {"secret": plane.variables["MSI_SECRET"]}
    answer = httpx.get(url, params=query, headers=headers, trust_env=False)
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "Bearer"
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 400


def test_keys_are_regenerated(cloud: Any, shared: Any) -> None:
    cloud.endpoint("keys-ep")
    cloud.deploy("keys-ep", "blue")
    cloud.traffic("keys-ep", {"blue": 100})
    before = cloud.target("keys-ep")
    cloud.client.online_endpoints.begin_regenerate_keys("keys-ep", key_type="primary").result()
    after = cloud.target("keys-ep")
    assert before.key != after.key
    assert before.score().status_code == 401
    assert after.score().status_code == 200
    cloud.delete("keys-ep")
