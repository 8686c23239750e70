"""RunPod's official Python SDK as the client: it cannot tell the simulator from RunPod."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import runpod
from runpod.error import QueryError

from tests.integration.simulator.serving import HANDLERS, KEY, simulator
from tests.waiting import eventually


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with simulator(
        "--endpoint", f"words={HANDLERS}/generator.py",
        "--endpoint", "fast=synthetic:duration=0.1",
        "--endpoint", "one=synthetic:duration=60,workers=1",
        "--endpoint", "failing=synthetic:duration=0,failures=1",
    ) as client:  # fmt: skip
        yield client.address


@pytest.fixture
def sdk(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(runpod, "endpoint_url_base", f"{address}/v2")
    return lambda name, key=KEY: runpod.Endpoint(name, api_key=key)


def test_run_status_output(sdk: Any) -> None:
    job = sdk("fast").run({"input": {"prompt": "a bee"}})
    assert job.output(timeout=20) == {"prompt": "a bee"}
    assert job.status() == "COMPLETED"


def test_run_sync(sdk: Any) -> None:
    assert sdk("fast").run_sync({"prompt": "a bee"}, timeout=20) == {"prompt": "a bee"}


def test_stream(sdk: Any) -> None:
    assert list(sdk("words").run({"text": "a few words"}).stream()) == ["a", "few", "words"]


def test_cancel_health_and_purge(sdk: Any) -> None:
    endpoint = sdk("one")
    first, second, third = (endpoint.run({"n": number}) for number in range(3))
    assert endpoint.health()["jobs"]["inQueue"] == 2
    assert second.cancel()["status"] == "CANCELLED"
    assert second.status() == "CANCELLED"
    assert endpoint.purge_queue() == {"removed": 1, "status": "completed"}
    assert first.status() == "IN_PROGRESS"
    assert first.cancel()["status"] == "CANCELLED"
    eventually(lambda: endpoint.health()["jobs"]["inProgress"], 0)
    assert third.job_id


def test_what_asks_by_graphql_is_told_that_there_is_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_BASE_URL", address)
    monkeypatch.setattr(runpod, "api_key", KEY)
    with pytest.raises(QueryError, match="no GraphQL"):
        runpod.get_gpus()


def test_a_failure(sdk: Any) -> None:
    job = sdk("failing").run({"n": 1})
    eventually(job.status, "FAILED")


def test_a_wrong_key_and_an_unknown_endpoint(sdk: Any) -> None:
    with pytest.raises(RuntimeError, match="401"):
        sdk("fast", key="wrong").run({"n": 1})
    with pytest.raises(Exception, match="404"):
        sdk("nobody").run({"n": 1})
