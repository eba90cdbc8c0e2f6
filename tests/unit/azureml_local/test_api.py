"""The REST API in process: no Azurite, no HAProxy, no servers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from azureml_local import tokens
from azureml_local.application import arm_application, identity_application
from azureml_local.exceptions import PlaneError
from azureml_local.home import Home, ensure_settings, resolve_home
from azureml_local.models.store import Resource
from azureml_local.plane import Plane
from azureml_local.processes import identify, is_alive
from azureml_local.responses.paths import canonical
from azureml_local.runtime.blobs import BlobPlace, place_of
from starlette.testclient import TestClient


@pytest.fixture
def api(plane: Plane) -> Iterator[TestClient]:
    token = tokens.issue(plane.secrets.signing_key, f"{plane.settings.arm_url}/").value
    with TestClient(
        arm_application(plane), headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False
    ) as client:
        yield client


def error_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_metadata_need_no_token(plane: Plane) -> None:
    answer = TestClient(arm_application(plane)).get("/metadata/endpoints", params={"api-version": "2019-05-01"})
    (cloud,) = answer.json()
    assert cloud["name"] == "LocalCloud"
    assert cloud["resourceManager"] == f"{plane.settings.arm_url}/"


def test_tokens_that_are_refused(plane: Plane, api: TestClient) -> None:
    key, url = plane.secrets.signing_key, plane.settings.arm_url
    now = int(time.time())
    bad = {
        "AuthenticationFailed": "",
        "InvalidAuthenticationToken": jwt.encode({"aud": url, "exp": now + 60}, "x" * 40, algorithm="HS256"),
        "ExpiredAuthenticationToken": tokens.issue(key, url, lifetime_sec=-10).value,
        "InvalidAuthenticationTokenAudience": tokens.issue(key, tokens.SCORING_AUDIENCE).value,
    }
    for code, token in bad.items():
        answer = api.get(plane.workspace_id, headers={"Authorization": f"Bearer {token}"})
        assert error_of(answer) == (401, code)
        assert "WWW-Authenticate" in answer.headers
    unsigned = jwt.encode({"aud": url, "exp": now + 60}, "", algorithm="none")
    assert api.get(plane.workspace_id, headers={"Authorization": f"Bearer {unsigned}"}).status_code == 401


def test_the_identity_endpoint_issues_tokens_that_the_api_takes(plane: Plane, api: TestClient) -> None:
    identity = TestClient(identity_application(plane))
    query = {"api-version": "2017-09-01", "resource": plane.settings.arm_url}
    answer = identity.get("/MSI/auth", params=query, headers={"secret": plane.secrets.identity_secret})
    token = answer.json()["access_token"]
    assert int(answer.json()["expires_on"]) > time.time()
    assert api.get(plane.workspace_id, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert identity.get("/MSI/auth", params=query).status_code == 401


def test_the_workspace_and_its_unknown_neighbours(plane: Plane, api: TestClient) -> None:
    answer = api.get(plane.workspace_id)
    assert answer.json()["location"] == "eastus"
    assert answer.headers["x-ms-request-id"]
    for wrong, code in (
        (plane.workspace_id.replace("local-ws", "other"), "ResourceNotFound"),
        (plane.workspace_id.replace("local-rg", "other"), "ResourceGroupNotFound"),
        (plane.workspace_id.replace("1111", "2222"), "SubscriptionNotFound"),
        (f"{plane.workspace_id}/nonsense", "NotFound"),
    ):
        assert error_of(api.get(wrong)) == (404, code)
    assert error_of(api.delete(plane.workspace_id)) == (405, "MethodNotAllowed")


def test_fixed_words_are_taken_in_any_case(plane: Plane, api: TestClient) -> None:
    assert api.get(plane.workspace_id.lower()).status_code == 200
    path = "/subscriptions/Models/RESOURCEGROUPS/providers/PROVIDERS/microsoft.machinelearningservices/WORKSPACES/codes"
    expected = (
        "/subscriptions/Models/resourceGroups/providers/providers/Microsoft.MachineLearningServices/workspaces/codes"
    )
    assert canonical(path) == expected


def test_bodies_that_are_refused(plane: Plane, api: TestClient) -> None:
    url = f"{plane.workspace_id}/onlineEndpoints/my-ep"
    for content in ("{", "[]", '"text"'):
        assert error_of(api.put(url, content=content)) == (400, "InvalidRequestContent")
    assert error_of(api.put(url, json={"properties": {"authMode": "Password"}})) == (400, "BadRequest")
    assert error_of(api.get(url)) == (404, "ResourceNotFound")


def test_absent_things(plane: Plane, api: TestClient) -> None:
    endpoint = f"{plane.workspace_id}/onlineEndpoints/absent-ep"
    assert api.delete(endpoint).status_code == 204
    assert error_of(api.put(f"{endpoint}/deployments/blue", json={})) == (404, "ResourceNotFound")
    assert error_of(api.post(f"{endpoint}/listKeys")) == (404, "ResourceNotFound")
    status = f"/subscriptions/{plane.settings.subscription_id}/providers/Microsoft.MachineLearningServices/locations"
    assert error_of(api.get(f"{status}/eastus/mfeOperationsStatus/none")) == (404, "ResourceNotFound")


def test_versions_are_immutable_and_found_by_content(plane: Plane, api: TestClient) -> None:
    model = f"{plane.workspace_id}/models/m/versions"
    body = {"properties": {"modelUri": "azureml://a", "modelType": "custom_model"}}
    assert api.put(f"{model}/1", json=body).status_code == 201
    assert api.put(f"{model}/1", json=body).status_code == 200
    other = {"properties": {"modelUri": "azureml://b"}}
    assert error_of(api.put(f"{model}/1", json=other)) == (409, "UserError")
    assert api.put(f"{model}/2", json=other).status_code == 201
    newest = api.get(model, params={"$orderBy": "createdtime desc", "$top": "1"}).json()["value"]
    assert [entry["name"] for entry in newest] == ["2"]
    # The SDK fails without it.
    assert newest[0]["properties"]["flavors"] == {}
    code = {"properties": {"codeUri": "https://x", "properties": {"hash_sha256": "abc"}}}
    api.put(f"{plane.workspace_id}/codes/first/versions/1", json=code)
    found = api.get(f"{plane.workspace_id}/codes/second/versions", params={"hash": "abc"}).json()["value"]
    assert [entry["id"] for entry in found] == [f"{plane.workspace_id}/codes/first/versions/1"]


def test_a_container_tells_the_next_version_and_the_latest(plane: Plane, api: TestClient) -> None:
    model = f"{plane.workspace_id}/models/m"
    body = {"properties": {"modelUri": "azureml://a"}}
    for version in ("2", "10", "custom", "2"):
        api.put(f"{model}/versions/{version}", json=body)
    told = api.get(model).json()["properties"]
    assert (told["latestVersion"], told["nextVersion"]) == ("custom", "11")
    assert [entry["properties"] for entry in api.get(f"{plane.workspace_id}/models").json()["value"]] == [told]
    for version in ("2", "10", "custom"):
        api.delete(f"{model}/versions/{version}")
    assert api.get(model).json()["properties"] == {"isArchived": False, "nextVersion": "1"}


def test_archived_assets_are_listed_when_asked_for(plane: Plane, api: TestClient) -> None:
    models = f"{plane.workspace_id}/models"
    body = {"properties": {"modelUri": "azureml://a"}}
    for path in ("kept/versions/1", "kept/versions/2", "gone/versions/1"):
        api.put(f"{models}/{path}", json=body)
    # As the SDK archives: what it has read goes back, changed.
    gone = api.get(f"{models}/gone").json()["properties"]
    assert api.put(f"{models}/gone", json={"properties": {**gone, "isArchived": True}}).status_code == 200
    version = {"properties": {**body["properties"], "isArchived": True}}
    assert api.put(f"{models}/kept/versions/1", json=version).status_code == 200

    def listed(collection: str, **query: str) -> list[str]:
        return [entry["name"] for entry in api.get(collection, params=query).json()["value"]]

    assert listed(models) == ["kept"] and listed(models, listViewType="ArchivedOnly") == ["gone"]
    assert listed(models, listViewType="All") == ["kept", "gone"]
    assert listed(f"{models}/kept/versions") == ["2"]
    assert listed(f"{models}/kept/versions", listViewType="ArchivedOnly") == ["1"]
    api.put(f"{models}/gone/versions/2", json=body)
    assert api.get(f"{models}/gone").json()["properties"]["isArchived"] is True


def test_an_endpoint_that_is_being_deleted_takes_no_deployments(plane: Plane, api: TestClient) -> None:
    endpoint = f"{plane.workspace_id}/onlineEndpoints/my-ep"
    plane.store.put(Resource(id=endpoint, properties={"authMode": "Key", "provisioningState": "Deleting"}))
    assert error_of(api.put(f"{endpoint}/deployments/blue", json={})) == (409, "Conflict")
    assert plane.deployments_of(endpoint) == []


def test_why_a_job_has_run_out_of_time(plane: Plane, api: TestClient) -> None:
    properties = {"jobType": "Command", "status": "Canceled", "properties": {}}
    job = plane.store.put(Resource(id=f"{plane.workspace_id}/jobs/j", properties=properties))
    url = f"/history/v1.0{plane.workspace_id}/runs/j/details"
    job.internal["error"] = {"code": "JobTimeout", "message": "longer than its limit"}
    told = api.get(url).json()
    assert told["error"]["error"]["code"] == "JobTimeout"
    assert [warning["message"] for warning in told["warnings"]] == ["longer than its limit"]
    job.internal["error"] = {"code": "JobCanceled", "message": "on request"}
    told = api.get(url).json()
    assert (told["error"], told["warnings"]) == (None, [])


def test_a_defect_is_answered_in_azures_shape(plane: Plane, api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(resource_id: str) -> Resource:
        raise RuntimeError("boom")

    monkeypatch.setattr(plane.store, "get", broken)
    assert error_of(api.get(f"{plane.workspace_id}/onlineEndpoints/my-ep")) == (500, "InternalServerError")


def test_places_of_blobs() -> None:
    uri = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/workspaceblobstore/paths/LocalUpload/h/model"
    assert place_of(uri) == BlobPlace("devstoreaccount1.blob.local", "azureml-blobstore", "LocalUpload/h/model")
    assert place_of("https://127.0.0.1:1/devstoreaccount1/codes-1/code") == BlobPlace(
        "devstoreaccount1", "codes-1", "code"
    )


def test_homes(tmp_path: Path) -> None:
    assert resolve_home("a", {}).root == Path.cwd() / "a"
    assert resolve_home(None, {"AZUREML_LOCAL_HOME": "/b"}).root == Path("/b")
    assert resolve_home(None, {}).root == Path("~/.azureml_local").expanduser()
    deep = Home(tmp_path / ("d" * 90))
    assert len(str(deep.socket_dir)) < 70 < len(str(deep.run_dir))


def test_settings_stay_as_they_were_first(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    first = ensure_settings(home, {"workspace_name": "mine"})
    assert ensure_settings(home, {"workspace_name": "mine", "location": None}) == first
    with pytest.raises(PlaneError, match="another --home"):
        ensure_settings(home, {"workspace_name": "yours"})
    assert len({first.arm_port, first.identity_port, first.blob_port}) == 3


def test_a_process_is_known_by_more_than_its_pid() -> None:
    identity = identify(os.getpid())
    assert identity is not None and is_alive(identity)
    assert not is_alive(type(identity)(identity.pid, identity.started_ticks + 1, identity.boot_id))
    assert identify(2**22 + 1) is None
