"""No input of a refused call stands in its error, its record or the log: names, types and sizes do."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from celery_runpod.errors import InvalidOption
from celery_runpod.options import Backoff, Options
from tests.builders import Bench

SECRET = "PATIENT Jane Doe, hf_token=hf_abc"


def logged(line: logging.LogRecord) -> str:
    """What the log shows of a record: the arguments that Celery puts beside its texts are dropped there."""
    return line.getMessage() + repr({name: value for name, value in vars(line).items() if name not in ("data", "args")})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"prompt": SECRET}, "prompt"),
        ({"prompt": {"text": SECRET}}, "dict of 1"),
        ({"fields": SECRET}, "fields"),
        ({"fields": [SECRET]}, "list of 1"),
        ({"options": SECRET}, "text of 33 characters"),
        ({"options": {"deadline": SECRET}}, "deadline"),
        ({"options": {"labels": SECRET}}, "labels"),
        ({"options": {"labels": [SECRET * 10]}}, "labels"),
        ({"options": {"backoff": SECRET}}, "backoff"),
        ({"options": {"backoff": {"first": SECRET}}}, "backoff.first"),
        ({"options": {"on_error": SECRET}}, "'raise' or 'return'"),
        ({"options": {"unknown": SECRET}}, "unknown"),
        ({"options": {"api_key_name": SECRET}}, "api_key_name"),
        ({"not_before": SECRET}, "not_before"),
        ({"format": SECRET}, "format"),
        ({"endpoint": SECRET}, "text of 33 characters"),
        ({"endpoint": {"prompt": SECRET}}, "dict of 1"),
    ],
    ids=repr,
)
def test_a_refused_call(arguments: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench = Bench()
    bench.app.tasks["runpod.run"].apply(kwargs={"endpoint": "e1", **arguments}, task_id="t1")
    record = bench.store.ids.job("t1")
    assert record is not None and told in record["outcome"]
    assert any("run.refused" in line.message and told in str(vars(line)) for line in caplog.records)
    kept = repr([bench.redis.dump(key) for key in bench.redis.scan_iter()])
    for text in (kept, *map(logged, caplog.records)):
        assert "Jane" not in text and "hf_abc" not in text


def test_a_call_that_cannot_be_understood(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    task = bench.app.tasks["runpod.run"]
    task.push_request(id="t1", called_directly=False, eta=SECRET, delivery_info={})
    try:
        with pytest.raises(Exception, match=r"^$"):
            task.run(endpoint="e1")
    finally:
        task.pop_request()
    record = bench.store.ids.job("t1")
    assert record is not None and "cannot be understood: ValueError at call_message.py:" in record["outcome"]
    assert "Jane" not in record["outcome"] + caplog.text + "".join(map(logged, caplog.records))


def test_a_refused_option_shows_numbers_and_no_texts() -> None:
    for wrong in ({"retries": 99}, {"deadline": -5.5}, {"sync": 3}, {"sync": None, "low_priority": 1}):
        with pytest.raises(InvalidOption) as refused:
            Options.parse(wrong)
        assert repr(refused.value.given) in str(refused.value) and isinstance(refused.value.given, int | float)
    with pytest.raises(InvalidOption) as refused:
        Backoff.parse({"first": float("inf")})
    assert refused.value.given == "inf"


@pytest.mark.parametrize("task", ["runpod.pods.list", "runpod.endpoints.billing", "runpod.health", "runpod.pods.wait"])
def test_a_management_task_that_is_refused(task: str) -> None:
    bench = Bench(RUNPOD_MANAGEMENT="on")
    bench.management = object()
    kwargs = {
        "runpod.pods.list": {"nope": SECRET},
        "runpod.endpoints.billing": {"start": SECRET},
        "runpod.health": {"endpoint": [SECRET]},
        "runpod.pods.wait": {"pod_id": "p1", "timeout_s": SECRET},
    }[task]
    with pytest.raises(Exception) as refused:
        bench.app.tasks[task].apply(kwargs=kwargs, throw=True)
    assert "Jane" not in str(refused.value) + repr(refused.value)
