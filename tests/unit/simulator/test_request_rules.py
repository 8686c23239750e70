"""What RunPod takes: the body of /run and /runsync, and the rate limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_runpod._simulator.request_rules import LIMITS, BadSubmission, Rates, parse_submission
from celery_runpod._simulator.simulated_jobs import Job


def submitted(body: Any, *, limits: bool = True, sync: bool = False) -> Job:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_submission(raw, "sdxl", 100.0, sync=sync, limits=limits)


def test_everything_that_runpod_takes() -> None:
    policy = {"executionTimeout": 5000, "ttl": 10_000, "lowPriority": True}
    s3 = {"bucketName": "b"}
    job = submitted({"input": [1], "webhook": "http://x/", "policy": policy, "s3Config": s3, "webhookV2": "http://y/"})
    assert (job.input, job.webhook, job.execution_timeout_s, job.ttl_s) == ([1], "http://x/", 5.0, 10.0)
    assert (job.low_priority, job.s3_config, job.submitted_at) == (True, s3, 100.0)


def test_ids() -> None:
    assert submitted({"input": 1}, sync=True).id.startswith("sync-")
    assert submitted({"input": 1}).id.endswith("-u1")


@pytest.mark.parametrize("value", [0, False, "", [], {}])
def test_any_json_is_an_input(value: Any) -> None:
    assert submitted({"input": value}).input == value


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"input": NaN}', "not JSON"),
        (b'{"input": [-Infinity]}', "not JSON"),
        (b'{"input": 1e999}', "not JSON"),
        ([], "not a JSON object"),
        ({}, "'input' is missing"),
        ({"input": None}, "'input' is missing"),
        ({"input": 1, "webhook": 1}, "webhook must be a text"),
        ({"input": 1, "policy": []}, None),
        ({"input": 1, "policy": [1]}, "policy must be an object"),
        ({"input": 1, "policy": {"executionTimeout": 4999}}, "policy.executionTimeout must be from 5000 to 604800000"),
        ({"input": 1, "policy": {"ttl": 9999}}, "policy.ttl must be from 10000"),
        ({"input": 1, "policy": {"ttl": "1"}}, "policy.ttl"),
        ({"input": 1, "policy": {"ttl": True}}, "policy.ttl"),
        ({"input": 1, "policy": {"ttl": 10**400}}, "policy.ttl must be from 10000"),
    ],
)
def test_a_bad_body(body: Any, words: str | None) -> None:
    if words is None:
        submitted(body)
        return
    with pytest.raises(BadSubmission, match=words):
        submitted(body)


def test_without_limits_times_may_be_short() -> None:
    policy = {"executionTimeout": 100, "ttl": 200}
    assert submitted({"input": 1, "policy": policy}, limits=False).execution_timeout_s == 0.1


@pytest.mark.parametrize("operation", [name for name, (_, at_once) in LIMITS.items() if at_once])
def test_so_many_in_the_window_and_more_when_it_has_passed(operation: str) -> None:
    rates = Rates()
    most = LIMITS[operation][0]
    for _ in range(most):
        assert rates.enter("sdxl", operation, 0.0)
        rates.leave("sdxl", operation)
    assert not rates.enter("sdxl", operation, 9.9)
    assert rates.enter("other", operation, 9.9)
    assert rates.enter("sdxl", operation, 10.0)


def test_so_many_at_once() -> None:
    rates = Rates()
    assert all(rates.enter("sdxl", "cancel", 0.0) for _ in range(20))
    assert not rates.enter("sdxl", "cancel", 0.0)
    rates.leave("sdxl", "cancel")
    assert rates.enter("sdxl", "cancel", 0.0)


def test_operations_without_a_limit() -> None:
    rates = Rates()
    assert all(rates.enter("sdxl", "health", 0.0) for _ in range(5000))


def test_purge_queue_twice_in_ten_seconds() -> None:
    rates = Rates()
    assert [rates.enter("sdxl", "purge-queue", at) for at in (0.0, 1.0, 2.0, 10.0, 10.5)] == [
        True, True, False, True, False,
    ]  # fmt: skip
