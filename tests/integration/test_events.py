"""What Flower is told: Celery's events of a job, folded by Celery's own state machine, as Flower does it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery.events.state import State
from celery.exceptions import TaskRevokedError

from tests.servers import World
from tests.waiting import eventually


class Monitor:
    """Receives every event, as Flower does."""

    def __init__(self, world: World) -> None:
        self.state = State()
        self.seen: list[dict[str, Any]] = []
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def _receive(self) -> None:
        app = self._world.app()
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": self._note})
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    receiver.capture(limit=None, timeout=0.5, wakeup=False)

    def _note(self, event: dict[str, Any]) -> None:
        self.seen.append(event)
        self.state.event(event)

    def of(self, task_id: str) -> list[dict[str, Any]]:
        return [event for event in self.seen if event.get("uuid") == task_id]

    def state_of(self, task_id: str) -> str | None:
        task = self.state.tasks.get(task_id)
        return task.state if task else None


@pytest.fixture
def monitor(world: World) -> Iterator[Monitor]:
    monitor = Monitor(world)
    monitor._thread.start()
    try:
        # It listens once it has seen a worker's heartbeat.
        eventually(lambda: any(event["type"] == "worker-heartbeat" for event in monitor.seen), True, within_s=30)
        yield monitor
    finally:
        monitor._stop.set()
        monitor._thread.join(timeout=10)


def test_a_job_has_one_name_and_its_worker_in_every_event(world: World, monitor: Monitor) -> None:
    result = world.endpoint("fast").delay(a=1)
    assert result.get(timeout=60) == {"a": 1}
    eventually(lambda: monitor.state_of(result.id), "SUCCESS")
    types = {event["type"] for event in monitor.of(result.id)}
    assert {"task-received", "task-in_queue", "task-succeeded"} <= types and "task-started" not in types
    assert {event["name"] for event in monitor.of(result.id) if "name" in event} == {"runpod.run[fast]"}
    named = {event["hostname"].partition("@")[0] for event in monitor.of(result.id)}
    assert named == {"runpod0"}


def test_an_ended_job_has_runpods_id_and_times_and_not_those_of_the_delivery(world: World, monitor: Monitor) -> None:
    result = world.endpoint("fast").delay(a=1)
    assert result.get(timeout=60) == {"a": 1}
    eventually(lambda: monitor.state_of(result.id), "SUCCESS")
    shown = monitor.state.tasks[result.id]
    assert result.job_id in shown.result and "..." not in shown.result
    timings = result.timings
    assert shown.runtime == timings["execution_s"] > 0
    assert shown.received <= shown.started <= shown.succeeded
    assert shown.succeeded - shown.started == pytest.approx(timings["execution_s"], abs=0.1)


def test_an_open_job_has_runpods_id_and_its_reason_and_checks_are_not_listed(world: World, monitor: Monitor) -> None:
    jobs = [world.endpoint("queued").delay(a=n) for n in range(2)]
    eventually(lambda: sorted(str(monitor.state_of(job.id)) for job in jobs), ["IN_PROGRESS", "IN_QUEUE"])
    eventually(
        lambda: [job.job_id is not None and job.job_id in monitor.state.tasks[job.id].result for job in jobs],
        [True, True],
    )
    working = next(job for job in jobs if monitor.state_of(job.id) == "IN_PROGRESS")
    assert monitor.state.tasks[working.id].started
    world.endpoint("queued").pause()
    held = world.endpoint("queued").delay(a=3)
    eventually(lambda: monitor.state.tasks[held.id].result if held.id in monitor.state.tasks else "", "reason ON_HOLD")
    world.endpoint("queued").resume()
    for job in (held, *jobs):
        job.cancel()
    names = {str(task.name).partition("[")[0] for task in monitor.state.tasks.values()}
    assert not names & {"runpod.check_status", "runpod.finish"}


def test_a_cancelled_job_is_no_longer_shown_in_the_queue(world: World, monitor: Monitor) -> None:
    blocking = world.endpoint("queued").delay(a=1)
    eventually(lambda: blocking.state, "IN_PROGRESS")
    result = world.endpoint("queued").delay(a=2)
    eventually(lambda: monitor.state_of(result.id), "IN_QUEUE")
    for one in (result, blocking):
        one.cancel()
        with pytest.raises(TaskRevokedError):
            one.get(timeout=30)
    eventually(lambda: [monitor.state_of(one.id) for one in (result, blocking)], ["CANCELLED", "CANCELLED"])
    assert "task-revoked" in {event["type"] for event in monitor.of(result.id)}
