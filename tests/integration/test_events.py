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
