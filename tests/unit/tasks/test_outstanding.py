"""Cancels that RunPod does not take: tried again within the budget, with growing pauses, and given up after a day."""

from __future__ import annotations

from typing import Any

import pytest

from celery_runpod.errors import (
    ConfigurationError,
    EndpointNotFound,
    JobNotFound,
    RateLimited,
    RunPodError,
    Unauthorized,
    Unavailable,
)
from tasks.budget import PER_WINDOW
from tests.builders import ENDPOINT, Bench

DAY_S = 86_400


@pytest.fixture
def bench() -> Bench:
    return Bench()


def owe(bench: Bench, count: int) -> None:
    keys = bench.store.keys
    for number in range(count):
        bench.redis.zadd(keys.cancels(ENDPOINT), {f"r{number}": bench.now})
        bench.redis.hset(keys.cancel_keys(ENDPOINT), f"r{number}", "")


def due(bench: Bench) -> float:
    """When the next check comes, in seconds from now."""
    found = bench.store.least_due(ENDPOINT)
    assert found is not None
    return max(0.0, found - bench.now)


def nothing_is_owed(bench: Bench) -> bool:
    keys = bench.store.keys
    return not bench.redis.exists(keys.cancels(ENDPOINT), keys.cancel_keys(ENDPOINT), keys.cancel_refusals(ENDPOINT))


REFUSALS = [
    Unauthorized("wrong key", "cancel", ENDPOINT, 401),
    Unauthorized("not yours", "cancel", ENDPOINT, 403),
    ConfigurationError("no RunPod API key: set RUNPOD_API_KEY_GONE"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=str)
def test_a_cancel_that_can_never_be_paid_is_tried_ever_more_rarely_and_given_up_loudly(
    bench: Bench, error: RunPodError, caplog: pytest.LogCaptureFixture
) -> None:
    owe(bench, 1)
    bench.runpod.script["cancel"] = [error] * 1000
    pauses: list[float] = []
    began = bench.now
    while bench.store.least_due(ENDPOINT) is not None and bench.now < began + 2 * DAY_S:
        pauses.append(due(bench))
        bench.check(after_s=pauses[-1])
    assert pauses[1:7] == pytest.approx([30, 60, 120, 240, 480, 600], abs=1)
    assert bench.now - began == pytest.approx(DAY_S, abs=601)
    (given_up,) = [record for record in caplog.records if record.message == "cancel.given_up"]
    assert given_up.levelname == "CRITICAL"
    assert "may still run" in vars(given_up)["problem"]
    assert nothing_is_owed(bench)


def test_a_key_that_is_set_again_pays_what_is_owed(bench: Bench) -> None:
    owe(bench, 1)
    bench.runpod.says("cancel", REFUSALS[0], REFUSALS[0])
    for _ in range(3):
        bench.check(after_s=due(bench))
    assert bench.runpod.called("cancel") == 3
    assert nothing_is_owed(bench)


@pytest.mark.parametrize(
    ("error", "settled_after_s"),
    [(JobNotFound("404", "cancel", ENDPOINT, 404), 5), (EndpointNotFound("404", "cancel", ENDPOINT, 404), 60)],
    ids=["job", "endpoint"],
)
def test_one_404_settles_no_cancel(bench: Bench, error: RunPodError, settled_after_s: float) -> None:
    owe(bench, 1)
    bench.runpod.says("cancel", error)
    bench.check()
    assert not nothing_is_owed(bench)
    bench.check(after_s=due(bench))
    assert bench.runpod.called("cancel") == 2 and nothing_is_owed(bench)
    owe(bench, 1)
    bench.runpod.script["cancel"] = [error] * 1000
    began = bench.now
    while not nothing_is_owed(bench):
        bench.check(after_s=due(bench))
    assert settled_after_s <= bench.now - began <= 2.5 * settled_after_s


def test_each_debt_knows_since_when_and_why_it_fails(bench: Bench) -> None:
    owe(bench, 1)
    bench.runpod.says("cancel", *[Unavailable("502", "cancel", ENDPOINT, 502)] * 2)
    began = bench.now
    bench.check()
    bench.check(after_s=6)
    (kept,) = bench.redis.hvals(bench.store.keys.cancel_refusals(ENDPOINT))
    assert '"tries":2' in kept
    assert repr(began) in kept
    assert "Unavailable" in kept
    bench.check(after_s=11)
    assert nothing_is_owed(bench)


def test_thousands_of_cancels_above_the_budget_are_paid_at_its_rate_with_a_look_in_two_seconds(bench: Bench) -> None:
    owe(bench, 400)
    looks, began = 0, bench.now
    while not nothing_is_owed(bench):
        bench.now += due(bench)
        bench.check()
        looks += 1
    took = bench.now - began
    assert took <= 1.5 * 10 * 400 / PER_WINDOW["cancel"]
    # One for each 20 that are paid, and one in two seconds.
    assert looks <= 400 / 20 + took / 2 + 5
    assert bench.runpod.called("cancel") == 400


@pytest.mark.parametrize(("asked_s", "put_off_s"), [(9.0, 9.0), (3600.0, 60.0)])
def test_a_429_puts_all_of_them_off_for_a_minute_at_most(bench: Bench, asked_s: float, put_off_s: float) -> None:
    owe(bench, 60)
    told: list[Any] = [RateLimited("slow down", "cancel", ENDPOINT, 429, retry_after_s=asked_s)] * 20
    bench.runpod.says("cancel", *told)
    bench.check()
    assert due(bench) == pytest.approx(put_off_s)
    bench.check()
    assert bench.runpod.called("cancel") == 20
