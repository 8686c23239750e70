"""What an endpoint does with the ends of its jobs: runs that are repeated, ends that come too late."""

from __future__ import annotations

import asyncio
import time

from celery_runpod._simulator.faults import Faults
from celery_runpod._simulator.simulated_endpoint import Endpoint
from celery_runpod._simulator.simulated_jobs import Job, State
from celery_runpod._simulator.webhook_sender import WebhookSender


class Idle:
    """A runner that does nothing by itself: the test takes the jobs."""

    def wake(self) -> None: ...

    def stop(self, job: Job, *, kill: bool) -> None: ...

    def tick(self, now: float) -> None: ...

    def health(self) -> dict[str, int]:
        return {}

    def scale(self, least: int, most: int | None, idle_s: float) -> None: ...

    def listing(self, now: float) -> list[tuple[str, str, float]]:
        return []

    def reset(self) -> None: ...

    async def close(self) -> None: ...


def endpoint(faults: Faults) -> Endpoint:
    found = Endpoint("sdxl", faults, WebhookSender(faults))
    found.runner = Idle()
    return found


def submitted(found: Endpoint, webhook: str | None = None) -> Job:
    job = Job("9f-u1", "sdxl", 1, time.time(), webhook=webhook)
    found.submit(job)
    return job


def test_run_twice_without_end_is_twice() -> None:
    faults = Faults()
    rule = faults.add({"kind": "run_twice"})
    found = endpoint(faults)
    job = submitted(found)
    for attempt in (1, 2):
        assert found.take("w") is not None
        found.finish(job, output=attempt)
    assert (job.state, job.output, job.attempts, rule.done) == (State.COMPLETED, 2, 2, 1)


def test_an_end_that_was_told_early_does_not_end_a_later_attempt() -> None:
    async def story() -> None:
        faults = Faults()
        faults.add({"kind": "early", "seconds": 0})
        found = endpoint(faults)
        job = submitted(found, webhook="http://127.0.0.1:1/")
        found.take("w")
        found.finish(job, output="early")
        found.tick(job.started_at + job.execution_timeout_s)  # type: ignore[operator]
        assert job.state is State.TIMED_OUT and found.retry(job)
        found.take("w")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (job.state, job.attempts) == (State.IN_PROGRESS, 2)
        await found.webhooks.close()

    asyncio.run(story())


def test_a_job_is_forgotten_once() -> None:
    found = endpoint(Faults())
    job = submitted(found)
    found.take("w")
    for _ in range(2):
        found.forget(job, "VANISHED")
    assert [one["status"] for one in found.queue.listing()] == ["VANISHED"]


def test_a_late_progress_update_lies_over_the_result_for_ever() -> None:
    """runpod-python#250: IN_PROGRESS beside an executionTime, with the progress as output."""
    faults = Faults()
    rule = faults.add({"kind": "reopen", "operation": "worker", "body": "99 %", "times": 1})
    found = endpoint(faults)
    job = submitted(found)
    found.take("w")
    assert "executionTime" not in job.answer()
    found.finish(job, output="the result")
    answer = job.answer()
    assert (answer["status"], answer["output"], "executionTime" in answer) == ("IN_PROGRESS", "99 %", True)
    found.cancel(job)
    assert job.answer()["status"] == "IN_PROGRESS"
    assert (job.state, job.output, rule.done) == (State.COMPLETED, "the result", 1)
    found.tick(job.ended_at + 1801)  # type: ignore[operator]
    assert job.gone == "FORGOTTEN"
