"""Webhooks: what is sent and when, retries, and the faults of deliveries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.simulator.serving import Client, Receiver, receiver, simulator
from tests.waiting import eventually

ENDPOINTS = (
    "--endpoint", "fast=synthetic:duration=0.05",
    "--endpoint", "slow=synthetic:duration=60",
    "--endpoint", "failing=synthetic:duration=0,failures=1")  # fmt: skip
TIMES = ("--webhook-retry-delay", "0.1", "--webhook-timeout", "0.5", "--no-limits")


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    with simulator(*ENDPOINTS, *TIMES) as client:
        yield client


@pytest.fixture
def runpod(shared: Client) -> Client:
    shared.reset()
    return shared


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def arrived(hook: Receiver, count: int) -> None:
    eventually(lambda: len(hook.raw), count)


def test_the_documented_body(runpod: Client, hook: Receiver) -> None:
    job_id = runpod.run("fast", {"a": 1}, webhook=hook.url)
    arrived(hook, 1)
    [body] = hook.bodies
    assert (body.pop("executionTime") >= 50, body.pop("delayTime") >= 0, bool(body.pop("workerId"))) == (True,) * 3
    expected = {"id": job_id, "status": "COMPLETED", "input": {"a": 1}, "output": {"a": 1}, "webhook": hook.url}
    assert body == expected


def test_each_end_has_one(runpod: Client, hook: Receiver) -> None:
    runpod.run("failing", webhook=hook.url)
    arrived(hook, 1)
    cancelled = runpod.run("slow", webhook=hook.url)
    runpod.send("POST", f"/v2/slow/cancel/{cancelled}")
    arrived(hook, 2)
    runpod.run("slow", webhook=hook.url, policy={"executionTimeout": 100})
    arrived(hook, 3)
    assert [body["status"] for body in hook.bodies] == ["FAILED", "CANCELLED", "TIMED_OUT"]
    assert "error" in hook.bodies[0]


def test_runsync_has_one_too(runpod: Client, hook: Receiver) -> None:
    runpod.runsync("fast", webhook=hook.url)
    arrived(hook, 1)


def test_two_more_tries_and_no_third(runpod: Client, hook: Receiver) -> None:
    hook.statuses = [500, 204, 500]
    runpod.run("fast", webhook=hook.url)
    arrived(hook, 3)
    runpod.run("fast", webhook=hook.url)
    arrived(hook, 4)
    assert len(set(hook.ids[:3])) == 1
    assert hook.at[1] - hook.at[0] >= 0.1


def test_a_slow_receiver_is_called_again(runpod: Client, hook: Receiver) -> None:
    hook.seconds = [1.0]
    runpod.run("fast", webhook=hook.url)
    arrived(hook, 2)
    assert len(set(hook.ids)) == 1


def test_an_address_that_cannot_be_reached_disturbs_nobody(runpod: Client) -> None:
    for url in ("http://127.0.0.1:1/", "nonsense", "http://[::"):
        job_id = runpod.run("fast", webhook=url)
        eventually(lambda job_id=job_id: runpod.state("fast", job_id), "COMPLETED")  # type: ignore[misc]


def test_duplicate(runpod: Client, hook: Receiver) -> None:
    runpod.fault("duplicate", operation="webhook", times=1)
    runpod.run("fast", webhook=hook.url)
    arrived(hook, 2)
    assert len(set(hook.ids)) == 1


@pytest.mark.parametrize("kind", ["late", "delay"])
def test_late(runpod: Client, hook: Receiver, kind: str) -> None:
    runpod.fault(kind, operation="webhook", seconds=0.4, times=1)
    job_id = runpod.run("fast", webhook=hook.url)
    eventually(lambda: runpod.state("fast", job_id), "COMPLETED")
    assert hook.raw == []
    arrived(hook, 1)


def test_early(runpod: Client, hook: Receiver) -> None:
    runpod.fault("early", operation="webhook", seconds=1.0, times=1)
    job_id = runpod.run("fast", webhook=hook.url)
    arrived(hook, 1)
    assert (hook.bodies[0]["status"], runpod.state("fast", job_id)) == ("COMPLETED", "IN_PROGRESS")
    eventually(lambda: runpod.state("fast", job_id), "COMPLETED")
    runpod.run("fast", webhook=hook.url)
    arrived(hook, 2)
    assert len(set(hook.ids)) == 2, "the early one comes once"


def test_reorder(runpod: Client, hook: Receiver) -> None:
    runpod.fault("reorder", operation="webhook", seconds=20, times=1)
    first = runpod.run("fast", webhook=hook.url)
    eventually(lambda: runpod.state("fast", first), "COMPLETED")
    second = runpod.run("fast", webhook=hook.url)
    arrived(hook, 2)
    assert hook.ids == [second, first]


def test_reorder_without_end_holds_one_at_a_time(runpod: Client, hook: Receiver) -> None:
    runpod.fault("reorder", operation="webhook", seconds=20)
    job_ids = []
    for delivered in (0, 2, 2, 4):
        job_id = runpod.run("fast", webhook=hook.url)
        job_ids.append(job_id)
        eventually(lambda job_id=job_id: runpod.state("fast", job_id), "COMPLETED")  # type: ignore[misc]
        arrived(hook, delivered)
    assert hook.ids == [job_ids[number] for number in (1, 0, 3, 2)]


def test_reorder_with_nothing_to_wait_for(runpod: Client, hook: Receiver) -> None:
    runpod.fault("reorder", operation="webhook", seconds=0.2, times=1)
    runpod.run("fast", webhook=hook.url)
    arrived(hook, 1)


@pytest.mark.parametrize(("kind", "deliveries"), [("drop_before", 1), ("drop_after", 2), ("status", 2)])
def test_a_lost_first_try_is_made_good_by_the_second(
    runpod: Client, hook: Receiver, kind: str, deliveries: int
) -> None:
    runpod.fault(kind, operation="webhook", times=1)
    runpod.run("fast", webhook=hook.url)
    arrived(hook, deliveries)


def test_a_rule_without_end_spoils_every_try(runpod: Client, hook: Receiver) -> None:
    fault = runpod.fault("drop_before", operation="webhook")
    runpod.run("fast", webhook=hook.url)
    eventually(lambda: [rule["done"] for rule in runpod.send("GET", "/_simulator/faults").json()], [3])
    runpod.send("DELETE", f"/_simulator/faults/{fault}")
    other = runpod.run("fast", webhook=hook.url)
    arrived(hook, 1)
    assert hook.ids == [other]


def test_truncated_and_other_bodies(runpod: Client, hook: Receiver) -> None:
    runpod.fault("truncate", operation="webhook", times=1)
    runpod.run("fast", webhook=hook.url)
    arrived(hook, 1)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
        hook.bodies  # noqa: B018
    runpod.fault("body", operation="webhook", body="hello", times=1)
    runpod.run("fast", webhook=hook.url)
    arrived(hook, 2)
    assert hook.raw[1] == "hello"
