"""A submit whose answer is lost: a webhook names its job and /status confirms it, or the window closes and the setting
decides."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_runpod._devstack.stack import cli, free_port
from tests.chaos.conftest import SHORT_WAITS
from tests.servers import ROOT, World
from tests.waiting import eventually

WAIT_S = 90


@pytest.fixture
def hooked(tmp_path: Path) -> Iterator[World]:
    """A world with webhooks, whose first polls come late."""
    port = free_port()
    env = {
        **SHORT_WAITS,
        "RUNPOD_WEBHOOK_URL": f"http://127.0.0.1:{port}/runpod/webhook",
        "RUNPOD_WEBHOOK_SECRET": "a-secret-of-the-chaos-tests",
        "RUNPOD_UNCONFIRMED_WINDOW_WEBHOOK_S": "20",
    }
    with World(tmp_path, endpoints=["two=synthetic:duration=2"], env=env) as world:
        command = [*cli("webhooks"), "--port", str(port)]
        world.stack.start("webhooks", command, ready=lambda server: " ready at " in server.text())
        world.app()
        yield world


def test_a_webhook_brings_the_result_of_a_job_whose_submit_went_unanswered(hooked: World) -> None:
    mark = uuid.uuid4().hex
    hooked.stack.worker("runpod0", cwd=ROOT)
    hooked.fault(endpoint="two", operation="run", kind="drop_after", times=1)
    result = hooked.endpoint("two").delay(mark=mark)
    eventually(lambda: result.reason, "UNCONFIRMED")
    assert result.get(timeout=WAIT_S) == {"mark": mark}
    assert hooked.statuses(mark) == ["COMPLETED"]
    eventually(hooked.open_jobs, [])


def test_a_job_whose_webhook_came_while_no_worker_was_up_is_adopted_by_its_id(hooked: World) -> None:
    mark = uuid.uuid4().hex
    worker = hooked.stack.worker("dies", cwd=ROOT)
    hooked.fault(endpoint="two", operation="run", kind="drop_after", times=1)
    result = hooked.endpoint("two").delay(mark=mark)
    eventually(lambda: result.reason, "UNCONFIRMED")
    worker.kill(signal.SIGKILL)
    # Nobody is there to take the check, and then it is gone: RunPod does not repeat a webhook that was answered 200.
    eventually(lambda: bool(hooked.redis.keys("*:candidates:*")), True)
    hooked.redis.delete("runpod.status", "runpod.unacked", "runpod.unacked_index")
    hooked.stack.worker("next", cwd=ROOT)
    assert result.get(timeout=WAIT_S) == {"mark": mark}
    assert hooked.statuses(mark) == ["COMPLETED"]
    eventually(hooked.open_jobs, [])


def test_with_resubmit_it_is_sent_again_and_late_news_of_the_first_attempt_change_nothing(tmp_path: Path) -> None:
    env = {**SHORT_WAITS, "RUNPOD_UNCONFIRMED_SUBMIT": "resubmit", "RUNPOD_UNCONFIRMED_WINDOW_S": "12"}
    with World(tmp_path, env=env) as world:
        world.stack.worker(cwd=ROOT)
        mark = uuid.uuid4().hex
        world.fault(endpoint="fast", operation="run", kind="drop_after", times=1)
        result = world.endpoint("fast").delay(mark=mark)
        assert result.get(timeout=WAIT_S) == {"mark": mark}
        assert world.statuses(mark) == ["COMPLETED", "COMPLETED"]
        assert world.stack.servers[-1].text().count("submit.resubmit") == 1
        eventually(world.open_jobs, [])


def test_an_answer_that_comes_after_the_window_is_cancelled_at_runpod(tmp_path: Path) -> None:
    """Only where a POST outlives its own deadline: here its process is stopped between the two."""
    with World(tmp_path, endpoints=["slow=synthetic:duration=60"], env=SHORT_WAITS) as world:
        sleeper = world.stack.worker("sleeps", cwd=ROOT)
        mark = uuid.uuid4().hex
        fault = world.fault(endpoint="slow", operation="run", kind="delay", seconds=1.5, times=1)
        result = world.endpoint("slow").delay(mark=mark)
        eventually(lambda: world.happened(fault), 1)
        sleeper.kill(signal.SIGSTOP)
        world.stack.worker("awake", cwd=ROOT)
        with pytest.raises(Exception, match="no answer"):
            result.get(timeout=WAIT_S)
        sleeper.kill(signal.SIGCONT)
        eventually(lambda: world.statuses(mark), ["CANCELLED"], within_s=60)
        eventually(world.open_jobs, [], within_s=60)


def test_another_worker_heals_when_the_one_that_did_dies(tmp_path: Path) -> None:
    with World(tmp_path, env=SHORT_WAITS) as world:

        def leader() -> str | None:
            found: str | None = world.redis.get("runpod:leader")
            return found

        first = world.stack.worker("first", cwd=ROOT)
        eventually(lambda: leader() is None, False)
        dead = leader()
        second = world.stack.worker("second", cwd=ROOT)
        first.kill(signal.SIGKILL)
        eventually(lambda: leader() in (None, dead), False, within_s=30)
        mark = uuid.uuid4().hex
        result = world.endpoint("fast").apply_async(({"mark": mark},), countdown=3)
        eventually(lambda: result.state, "WAITING")
        # The check that would come is lost: out of the store, and with the worker out of its memory. Nothing but the
        # self-healing of a third one makes up for it.
        second.kill(signal.SIGKILL)
        second.process.wait()
        world.redis.delete("runpod.status", "runpod.unacked", "runpod.unacked_index")
        world.stack.worker("third", cwd=ROOT)
        assert result.get(timeout=WAIT_S) == {"mark": mark}
        assert world.statuses(mark) == ["COMPLETED"]
        eventually(world.open_jobs, [])
