"""The examples in the clients' docstrings run, against a small RunPod on loopback."""

from __future__ import annotations

import doctest
import importlib
import itertools
import pkgutil

import pytest

import celery_runpod.api

from .conftest import KEY, Serve
from .servers import Request, answer

CHUNKS = itertools.cycle([("Once", " upon", " a", " time"), ()])
MODULES = sorted(module.name for module in pkgutil.iter_modules(celery_runpod.api.__path__))


def endpoint(request: Request) -> bytes:
    operation = request.path.removeprefix("/v2/9zt0qb3c/").partition("/")[0].partition("?")[0]
    return answer(
        {
            "run": {"id": "9f-u1", "status": "IN_QUEUE"},
            "status": {
                "id": "9f-u1",
                "status": "COMPLETED",
                "output": {"image": "https://example.com/astronaut.png"},
            },
            "cancel": {"id": "9f-u1", "status": "CANCELLED"},
            "purge-queue": {"removed": 3, "status": "completed"},
            "health": {"jobs": {}, "workers": {"throttled": 2}},
            "stream": {
                "status": "COMPLETED",
                "stream": [{"output": chunk} for chunk in next(CHUNKS)] if "/stream/" in request.path else [],
            },
        }[operation]
    )


def management(request: Request) -> bytes:
    if request.method == "DELETE":
        return answer(b"", 204)
    if request.path == "/v2/serverless/4m7x2k9q":
        return answer({"id": "4m7x2k9q", "workers": {"min": 1, "max": 10}})
    running = {"id": "7h9k2m4n6p", "name": "train", "status": "RUNNING"}
    if request.path == "/v2/pods":
        return answer({"pods": []}) if request.method == "GET" else answer(running, 201)
    return answer(running)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    monkeypatch.setenv("RUNPOD_BASE_URL", serve(endpoint).url)
    monkeypatch.setenv("RUNPOD_REST_URL", serve(management).url)
    module = importlib.import_module(f"celery_runpod.api.{name}")
    # As a reader would type them: with what the module itself imports.
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL, verbose=False)
    assert results.failed == 0


@pytest.mark.parametrize(
    ("module", "example"), [("_serverless", "RunPodClient.run"), ("_management", "ManagementClient")]
)
def test_there_are_examples_of_the_clients(module: str, example: str) -> None:
    found = doctest.DocTestFinder().find(importlib.import_module(f"celery_runpod.api.{module}"))
    assert f"celery_runpod.api.{module}.{example}" in {test.name for test in found if test.examples}
