"""Stopping what workers run: our own are killed, those from outside are told; what handlers get to see."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from celery_runpod._devstack.process_guard import Guard
from celery_runpod._simulator import worker_fleet
from celery_runpod._simulator.endpoint_specs import Handler
from celery_runpod._simulator.faults import Faults
from celery_runpod._simulator.simulated_endpoint import Endpoint
from celery_runpod._simulator.simulated_jobs import Job, State
from celery_runpod._simulator.webhook_sender import WebhookSender
from celery_runpod._simulator.worker_fleet import Fleet, Worker
from celery_runpod._simulator.worker_processes import PING_S, WorkerProcess, environment


class Process:
    """Does what it is told, and remembers it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def terminate(self) -> None:
        self.told.append("terminate")

    def kill(self) -> None:
        self.told.append("kill")


def fleet() -> Fleet:
    faults = Faults()
    endpoint = Endpoint("sdxl", faults, WebhookSender(faults))
    endpoint.runner = found = Fleet(endpoint, Handler("sdxl", None, workers=0), Guard())
    return found


def submit(found: Fleet, name: str, **fields: Any) -> Job:
    job = Job(name, "sdxl", name, time.time(), **fields)
    found.endpoint.submit(job)
    return job


async def take(found: Fleet, worker: Worker, *, idle: bool = False) -> list[str]:
    return [taken.job.id for taken in await found.ask(worker, 1, idle=idle, seconds=0)]


def own(found: Fleet) -> tuple[Worker, Process]:
    process = Process()
    worker = found.workers["own"] = Worker("own", own=True, process=cast(WorkerProcess, process))
    return worker, process


def docker(found: Fleet) -> Worker:
    worker = found.known("docker")
    assert worker is not None
    return worker


def told(worker: Worker) -> list[str]:
    return [worker.stops.get_nowait() for _ in range(worker.stops.qsize())]


def test_a_worker_from_outside_lives_on_after_an_execution_timeout() -> None:
    async def story() -> None:
        found = fleet()
        worker, job = docker(found), submit(found, "slow", execution_timeout_s=5.0)
        assert await take(found, worker) == ["slow"]
        found.endpoint.tick(time.time() + 6)
        assert (job.state, told(worker), worker.busy) == (State.TIMED_OUT, ["slow"], True)
        submit(found, "next")
        assert await take(found, worker, idle=True) == ["next"]

    asyncio.run(story())


def test_a_worker_from_outside_lives_on_after_a_reset() -> None:
    async def story() -> None:
        found = fleet()
        worker = docker(found)
        submit(found, "old")
        await take(found, worker)
        found.endpoint.reset()
        assert told(worker) == ["old"]
        submit(found, "new")
        assert await take(found, worker, idle=True) == ["new"]

    asyncio.run(story())


def test_a_worker_from_outside_is_told_again_until_its_pings_no_longer_name_the_job() -> None:
    async def story() -> None:
        found = fleet()
        worker, job = docker(found), submit(found, "slow")
        await take(found, worker)
        found.endpoint.cancel(job)
        now = time.time()
        for after_s in (0, 1, 5):
            assert told(worker) == ["slow"]
            found.endpoint.tick(now + after_s + 1)
        worker.stopping["slow"] -= PING_S
        found.running(worker, ["slow"])
        assert worker.busy
        found.running(worker, [])
        assert not worker.busy

    asyncio.run(story())


def test_a_ping_that_was_on_its_way_is_not_believed() -> None:
    async def story() -> None:
        found = fleet()
        worker, job = docker(found), submit(found, "slow")
        await take(found, worker)
        found.endpoint.cancel(job)
        found.running(worker, [])
        assert worker.busy

    asyncio.run(story())


def test_a_job_that_is_tried_again_by_the_same_worker_is_not_stopped() -> None:
    async def story() -> None:
        found = fleet()
        worker, job = docker(found), submit(found, "slow", execution_timeout_s=5.0)
        await take(found, worker)
        found.endpoint.tick(time.time() + 6)
        assert found.endpoint.retry(job)
        assert await take(found, worker) == ["slow"]
        assert not worker.stopping

    asyncio.run(story())


def test_our_own_worker_is_killed_by_an_execution_timeout_and_by_a_reset() -> None:
    async def story() -> None:
        found = fleet()
        worker, process = own(found)
        job = submit(found, "slow", execution_timeout_s=5.0)
        found.scaling.most = 1
        assert await take(found, worker) == ["slow"]
        found.endpoint.tick(time.time() + 6)
        assert (job.state, set(process.told), worker.killed) == (State.TIMED_OUT, {"kill"}, True)
        again, other = own(found)
        submit(found, "old")
        await take(found, again)
        found.endpoint.reset()
        assert (other.told, again.jobs) == (["kill"], {})

    asyncio.run(story())


def test_a_worker_that_asked_to_be_refreshed_ends_its_other_jobs_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_fleet, "END_GRACE_S", 0.0)

    async def graces() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def story() -> None:
        found = fleet()
        worker, process = own(found)
        found.scaling.most = 1
        for name in ("a", "b"):
            submit(found, name)
        worker.batch = 2
        assert len(await found.ask(worker, 2, idle=True, seconds=0)) == 2
        assert found.done(worker, "a") is not None
        found.retire(worker)
        await graces()
        assert process.told == ["terminate"]
        assert found.done(worker, "b") is not None
        await graces()
        assert process.told == ["terminate", "kill"]

    asyncio.run(story())


def test_what_a_dead_worker_had_is_no_longer_its_own() -> None:
    async def story() -> None:
        found = fleet()
        worker, other = docker(found), found.known("other")
        assert other is not None
        job = submit(found, "slow")
        taken = await found.ask(worker, 1, idle=True, seconds=0)
        other.seen_at += 1000
        found.endpoint.tick(time.time() + 100)
        assert await take(found, other) == ["slow"]
        found.back(worker, taken)
        assert (job.state, job.worker_id) == (State.IN_PROGRESS, "other")

    asyncio.run(story())


@pytest.mark.parametrize(
    "name",
    [
        "RUNPOD_API_KEY", "RUNPOD_API_KEY_FILE", "RUNPOD_API_KEY_BILLING_A", "RUNPOD_WEBHOOK_SECRET",
        "RUNPOD_WEBHOOK_SECRET_PREVIOUS", "REDIS_URL", "RUNPOD_BROKER_URL", "CELERY_BROKER_URL",
        "RUNPOD_RESULT_BACKEND", "CELERY_RESULT_BACKEND", "RUNPOD_STORE_URL", "FLOWER_BASIC_AUTH",
    ],
)  # fmt: skip
def test_keys_and_passwords_are_not_for_handlers(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("HF_TOKEN", "of-the-handler")
    found = environment("http://127.0.0.1:8900", "sdxl", "w", "token")
    assert name not in found
    assert (found["HF_TOKEN"], found["RUNPOD_AI_API_KEY"]) == ("of-the-handler", "token")
    assert found["RUNPOD_WEBHOOK_PING"].startswith("http://127.0.0.1:8900/v2/sdxl/ping/")
