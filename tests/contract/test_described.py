"""Our own description of the management API: it is complete, finds what is wrong, and agrees with RunPod's."""

from __future__ import annotations

from typing import Any

import pytest

from celery_runpod.api._management import DIALECTS
from celery_runpod.api._operations import OPERATIONS
from tests.unit.api.rest import ENDPOINTS, PODS

from .described import VERSIONS, check_answer, check_request, check_value, description
from .descriptions import FOLDER, Violation, operation_of

GPU_POD = {"name": "a", "image": "b", "gpu": {"id": "NVIDIA L4"}}
POD = {"id": "abc", "name": "a", "status": "RUNNING"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_operation_of_the_client_is_described(version: str) -> None:
    dialect = DIALECTS[version]
    ours = {dialect.calls.get(name, one.call) for name, one in OPERATIONS.items() if name not in dialect.lacks}
    described = set(description()[version]["operations"])
    assert ours <= described, ours - described
    # Beyond them: what the simulator serves of v2 for other clients.
    assert described - ours <= {"GET catalog/gpus/{id}"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_answers_that_unit_tests_give_are_as_described(version: str) -> None:
    check_value(version, "pod", PODS[version], "pod", closed=False)
    check_value(version, "endpoint", ENDPOINTS[version], "endpoint", closed=False)


@pytest.mark.parametrize(
    ("version", "method", "path", "query", "body", "problem"),
    [
        ("v2", "GET", "/pods", {}, None, "has no"),
        ("v2", "PUT", "/v2/pods/abc", {}, {}, "has no"),
        ("v2", "GET", "/v2/pods", {"name": "a"}, None, "name"),
        ("v2", "GET", "/v2/pods/abc/logs", {"tail": "all"}, None, "all"),
        ("v2", "POST", "/v2/pods", {}, None, "needs a body"),
        ("v2", "GET", "/v2/pods", {}, {}, "takes no body"),
        ("v2", "POST", "/v2/pods", {}, GPU_POD | {"gpuCount": 1}, "gpuCount"),
        ("v2", "POST", "/v2/pods", {}, GPU_POD | {"gpu": {}}, "id"),
        ("v2", "POST", "/v2/pods/abc/action", {}, {"action": "reset"}, "reset"),
        ("v1", "GET", "/v1/catalog/gpus", {}, None, "has no"),
        ("v1", "POST", "/v1/pods", {}, GPU_POD, "image"),
    ],
)
def test_a_request_that_is_not_as_described(
    version: str, method: str, path: str, query: dict[str, str], body: Any, problem: str
) -> None:
    with pytest.raises(Violation, match=problem):
        check_request(version, method, path, query, body)


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("DELETE", "/v2/pods/abc", 204, {}),
        ("GET", "/v2/pods", 200, []),
        ("GET", "/v2/pods", 200, {"pods": [POD | {"cost": "1"}]}),
        ("GET", "/v2/pods/abc", 404, {"message": "pod not found"}),
        ("POST", "/v2/pods", 200, POD),
    ],
)
def test_an_answer_that_is_not_as_described(method: str, path: str, status: int, body: Any) -> None:
    with pytest.raises(Violation):
        check_answer("v2", method, path, status, body)


if FOLDER:

    @pytest.mark.parametrize("version", VERSIONS)
    def test_runpod_describes_what_we_describe(version: str) -> None:
        for call, ours in description()[version]["operations"].items():
            method, path = call.split()
            theirs = operation_of(version, method, f"/{version}/{path.format(id='abc')}")
            known = {one["name"] for one in theirs.parameters if one["in"] == "query"}
            assert set(ours.get("query", {})) <= known, call
            assert ("body" in ours) == ("requestBody" in theirs.described), call
            # v1 documents no success of its actions.
            assert not ours or str(ours.get("status", 200)) in theirs.described["responses"], call
