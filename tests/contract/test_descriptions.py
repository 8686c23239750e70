"""The helper itself: it finds what it should find, and finds fault with what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from .descriptions import (
    VERSIONS,
    Violation,
    check_answer,
    check_request,
    description,
    examples,
    operations,
)

GPU_POD = {"name": "a", "image": "b", "gpu": {"id": "NVIDIA L4"}}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_schema_is_one(version: str) -> None:
    for schema in description(version)["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_runpods_own_examples_are_as_described() -> None:
    checked = 0
    for operation in operations("v2"):
        path = operation.path.replace("{id}", "7h9k2m4n6p").replace("{workerId}", "w")
        for status in (200, 201):
            for body in examples(operation, status):
                check_answer("v2", operation.method, path, status, body)
                checked += 1
    assert checked > 30


@pytest.mark.parametrize(
    ("version", "method", "path", "query", "body"),
    [
        ("v2", "GET", "/v2/pods", {}, None),
        ("v2", "GET", "/v2/pods/abc/logs", {"tail": "10", "source": "system"}, None),
        ("v2", "GET", "/v2/catalog/gpus", {"include": "AVAILABILITY", "product": "POD,SERVERLESS"}, None),
        ("v2", "POST", "/v2/pods", {}, GPU_POD),
        ("v2", "POST", "/v2/pods/abc/action", {}, {"action": "stop"}),
        ("v1", "GET", "/v1/pods", {"includeMachine": "true"}, None),
        (
            "v1",
            "POST",
            "/v1/pods",
            {},
            {"name": "a", "imageName": "b", "gpuTypeIds": ["NVIDIA L4"], "volumeInGb": None},
        ),
        ("v1", "POST", "/v1/pods/abc/start", {}, None),
    ],
)
def test_a_request_as_described(version: str, method: str, path: str, query: dict[str, str], body: Any) -> None:
    assert check_request(version, method, path, query, body).method == method


@pytest.mark.parametrize(
    ("version", "method", "path", "query", "body", "problem"),
    [
        ("v2", "GET", "/pods", {}, None, "no path"),
        ("v2", "PUT", "/v2/pods/abc", {}, {}, "no PUT"),
        ("v2", "GET", "/v2/pods", {"name": "a"}, None, "no query parameter name"),
        ("v2", "GET", "/v2/pods/abc/logs", {"tail": "9999"}, None, "9999"),
        ("v2", "GET", "/v2/pods/abc/logs", {"tail": "all"}, None, "all"),
        ("v2", "POST", "/v2/pods", {}, None, "needs a body"),
        ("v2", "POST", "/v2/pods", {}, GPU_POD | {"gpuCount": 1}, "gpuCount"),
        ("v2", "POST", "/v2/pods", {}, GPU_POD | {"name": ""}, "name"),
        ("v2", "POST", "/v2/pods", {}, {"name": "a", "gpu": {"id": "NVIDIA L4"}}, "image"),
        ("v2", "POST", "/v2/pods/abc/action", {}, {"action": "reset"}, "reset"),
        ("v2", "GET", "/v2/pods", {}, {}, "takes no body"),
        ("v1", "GET", "/v1/catalog/gpus", {}, None, "no path"),
        ("v1", "POST", "/v1/pods", {}, GPU_POD, "image"),
        ("v1", "POST", "/v1/pods", {}, {"gpuCount": 0}, "gpuCount"),
    ],
)
def test_a_request_that_is_not(
    version: str, method: str, path: str, query: dict[str, str], body: Any, problem: str
) -> None:
    with pytest.raises(Violation, match=problem):
        check_request(version, method, path, query, body)


@pytest.mark.parametrize(
    ("version", "method", "path", "status", "body", "problem"),
    [
        ("v2", "DELETE", "/v2/pods/abc", 204, {}, "there is none"),
        ("v2", "GET", "/v2/pods", 200, [], "object"),
        ("v2", "GET", "/v2/pods", 200, None, "missing"),
        ("v2", "GET", "/v2/pods/abc", 404, {"message": "pod not found"}, "title"),
        ("v2", "GET", "/v2/pods/abc", 418, {"error": "x"}, "title"),
        ("v1", "GET", "/v1/pods", 200, {"pods": []}, "array"),
        ("v1", "POST", "/v1/pods", 200, {}, "does not answer 200"),
    ],
)
def test_an_answer_that_is_not(version: str, method: str, path: str, status: int, body: Any, problem: str) -> None:
    with pytest.raises(Violation, match=problem):
        check_answer(version, method, path, status, body)


@pytest.mark.parametrize(
    ("version", "method", "path", "status", "body"),
    [
        ("v2", "DELETE", "/v2/pods/abc", 204, None),
        ("v2", "GET", "/v2/pods/abc", 404, {"title": "Not Found", "status": 404, "detail": "no such pod"}),
        ("v1", "GET", "/v1/pods", 200, [{"id": "abc", "portMappings": None}]),
        ("v1", "POST", "/v1/pods/abc/start", 200, None),
        ("v1", "POST", "/v1/pods", 400, {"message": "no"}),
    ],
)
def test_an_answer_as_described(version: str, method: str, path: str, status: int, body: Any) -> None:
    check_answer(version, method, path, status, body)
