"""The examples in the client's docstrings run, against a small endpoint on loopback."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import celery_runpod.api

from .conftest import KEY, Serve
from .servers import Request, answer

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
                "stream": [{"output": chunk} for chunk in ("Once", " upon", " a", " time")],
            },
        }[operation]
    )


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    monkeypatch.setenv("RUNPOD_BASE_URL", serve(endpoint).url)
    module = importlib.import_module(f"celery_runpod.api.{name}")
    # As a reader would type them: with what the module itself imports.
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL, verbose=False)
    assert results.failed == 0


def test_there_are_examples_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = doctest.DocTestFinder()
    found = [
        test.name for test in finder.find(importlib.import_module("celery_runpod.api.serverless")) if test.examples
    ]
    assert "RunPodClient.run" in {name.removeprefix("celery_runpod.api.serverless.") for name in found}
