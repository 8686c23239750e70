"""health, purge, retry and cancel from a process without an API key: workers carry them out, errors arrive typed."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import chain, chord, group

from celery_runpod import JobResult, _asking
from celery_runpod._asking import ask
from celery_runpod.errors import (
    ConfigurationError,
    EndpointNotFound,
    InvalidInput,
    JobFailed,
    JobPurged,
    NoAnswer,
    OutputMissing,
    PurgeRefused,
    RateLimited,
    RetryRefused,
    StartTimeout,
)
from tests.application import collect, note, retry_for_ever, same
from tests.servers import ROOT, World
from tests.waiting import eventually

WAIT_S = 60


@pytest.fixture(autouse=True)
def _no_key_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)


@pytest.fixture(scope="module")
def toggled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A handler that fails while the file `fail` is there, and one that does not start until the file `warm` is."""
    folder = tmp_path_factory.mktemp("handler")
    (folder / "handler.py").write_text(
        "import os, runpod\n"
        "def handler(job):\n"
        "    if os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fail')):\n"
        "        raise ValueError('asked for it')\n"
        "    return {'again': job['input']}\n"
        "runpod.serverless.start({'handler': handler})\n"
    )
    (folder / "cold.py").write_text(
        "import os, time, runpod\n"
        "while not os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'warm')):\n"
        "    time.sleep(0.1)\n"
        "runpod.serverless.start({'handler': lambda job: job['input']})\n"
    )
    return folder


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, toggled: Path) -> Iterator[World]:
    endpoints = (
        "fast=synthetic:duration=0.3",
        "queued=synthetic:duration=60,workers=1",
        f"moody={toggled / 'handler.py'},idle=60",
        f"cold={toggled / 'cold.py'}",
        "absent=external",
        "slow=synthetic:duration=4",
        "huge=synthetic:duration=0.3,output_bytes=21000000",
    )
    with World(tmp_path_factory.mktemp("world"), endpoints=endpoints) as world:
        yield world.start()


# health


def test_health_of_an_endpoint(world: World) -> None:
    before = world.endpoint("fast").health().completed
    world.endpoint("fast").delay(a=1).get(timeout=WAIT_S)
    assert world.endpoint("fast").health().completed == before + 1


def test_health_of_an_endpoint_that_runpod_does_not_know(world: World) -> None:
    with pytest.raises(EndpointNotFound) as caught:
        world.endpoint("nobody").health()
    assert (caught.value.operation, caught.value.endpoint) == ("health", "nobody")


def test_nobody_answers(tmp_path: Path) -> None:
    with World(tmp_path, endpoints=("fast=synthetic:duration=1",)) as world:
        with pytest.raises(NoAnswer, match="no RunPod worker is up") as caught:
            world.endpoint("fast").purge_queue(timeout=0.5)
        assert caught.value.worker_up is False
        world.stack.worker(cwd=ROOT)
        # What nobody waits for any more is not carried out.
        assert world.endpoint("fast").health(timeout=WAIT_S).in_queue == 0
        assert "purge-queue" not in world.requests()


# reasons


@contextmanager
def told_to_flower(world: World) -> Iterator[list[dict[str, Any]]]:
    """The events that Flower shows as IN_QUEUE, as they come."""
    app, seen, done = world.app(), [], threading.Event()

    def listen() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"task-in_queue": seen.append})
            while not done.is_set():
                with suppress(TimeoutError):
                    receiver.capture(limit=None, timeout=0.5, wakeup=False)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def test_why_a_job_waits_in_runpods_queue(world: World, toggled: Path) -> None:
    with told_to_flower(world) as events:
        _jobs_wait_with_their_reasons(world, events, toggled / "warm")


def _jobs_wait_with_their_reasons(world: World, events: list[dict[str, Any]], warm: Path) -> None:
    cold, absent = world.endpoint("cold").delay(a=1), world.endpoint("absent", start_timeout=8).delay(a=2)
    eventually(lambda: (cold.state, cold.reason), ("IN_QUEUE", "COLD_START"))
    eventually(lambda: (absent.state, absent.reason), ("IN_QUEUE", "NO_CAPACITY"))
    shown = world.app().backend.get_task_meta(absent.id)["result"]
    assert shown["reason"] == "NO_CAPACITY"
    eventually(
        lambda: {one["uuid"]: one["reason"] for one in events if "reason" in one},
        {cold.id: "COLD_START", absent.id: "NO_CAPACITY"},
    )
    warm.touch()
    with pytest.raises(StartTimeout, match=r"within 8 s \(NO_CAPACITY\)"):
        absent.get(timeout=WAIT_S)
    assert cold.get(timeout=WAIT_S) == {"a": 1}
    looks = sum(world.requests()["health"].values())
    assert looks < 20, "one look serves all, for some seconds"


# purge


def test_a_purge_ends_our_queued_jobs_and_leaves_the_running_one(world: World) -> None:
    endpoint = world.endpoint("queued")
    running = endpoint.delay(a=0)
    eventually(lambda: running.state, "IN_PROGRESS")
    waiting = [endpoint.delay(a=number) for number in range(1, 4)]
    eventually(lambda: [job.state for job in waiting], ["IN_QUEUE"] * 3)
    errback = world.endpoint("queued").s(a=4).on_error(note.s("purged"))
    linked = errback.apply_async()
    eventually(lambda: linked.state, "IN_QUEUE")
    try:
        assert endpoint.purge_queue() == 4
        for job in (*waiting, linked):
            with pytest.raises(JobPurged) as caught:
                job.get(timeout=WAIT_S)
            assert caught.value.task_id == job.id
        assert running.state == "IN_PROGRESS"
        assert endpoint.purge_queue() == 0
        with pytest.raises(RateLimited, match="two purges"):
            endpoint.purge_queue()
    finally:
        running.cancel()
    eventually(lambda: running.state, "REVOKED")


def test_no_purge_while_jobs_are_submitted(world: World) -> None:
    world.fault(endpoint="queued", operation="run", kind="drop_after", times=1)
    lost = world.endpoint("queued").delay(a=1)
    eventually(lambda: lost.reason, "UNCONFIRMED")
    try:
        before = world.requests().get("purge-queue", {})
        with pytest.raises(PurgeRefused) as caught:
            world.endpoint("queued").purge_queue()
        assert (caught.value.endpoint, caught.value.submitting) == ("queued", 1)
        assert world.requests().get("purge-queue", {}) == before
    finally:
        lost.cancel()
        eventually(lambda: lost.state, "REVOKED")
        # The job whose id nobody knows.
        for job in world.jobs("queued"):
            url = f"{world.simulator_url}/v2/queued/cancel/{job['id']}"
            requests.post(url, headers={"Authorization": world.stack.env["RUNPOD_API_KEY"]}, timeout=5)


# retry


@pytest.fixture
def failing(toggled: Path) -> Iterator[Path]:
    mark = toggled / "fail"
    mark.touch()
    yield mark
    mark.unlink(missing_ok=True)


def test_a_failed_job_runs_again_with_its_chain_and_links(world: World, failing: Path) -> None:
    key = uuid.uuid4().hex
    step = world.endpoint("moody").s(a=1).set(link=[note.s(key)])
    last = chain(same.s({"b": 2}), step, same.s(), world.endpoint("fast").s(c=3)).delay()
    with pytest.raises(JobFailed):
        last.get(timeout=WAIT_S)
    failed = last.parent.parent
    failing.unlink()
    again = world.endpoint("moody").retry(failed.id)
    assert isinstance(again, JobResult)
    assert again.id != failed.id
    assert again.get(timeout=WAIT_S) == {"again": {"b": 2, "a": 1}}
    # A result that was seen to fail is remembered by its object: looked at afresh, as another process would.
    eventually(lambda: JobResult(last.id).state, "SUCCESS", within_s=WAIT_S)
    assert JobResult(last.id).get(timeout=WAIT_S) == {"again": {"b": 2, "a": 1}, "c": 3}
    eventually(lambda: world.redis.lrange(key, 0, -1), ["{'again': {'b': 2, 'a': 1}}"])
    assert failed.state == "FAILURE"
    with pytest.raises(RetryRefused, match=again.id):
        world.endpoint("moody").retry(failed.id)


def test_a_job_that_no_worker_took_in_time_runs_again(world: World) -> None:
    busy = world.endpoint("queued").delay(a=1)
    eventually(lambda: busy.state, "IN_PROGRESS")
    late = world.endpoint("queued", start_timeout=2).delay(a=2)
    with pytest.raises(StartTimeout):
        late.get(timeout=WAIT_S)
    again = world.endpoint("queued").retry(late.id)
    eventually(lambda: again.state, "IN_QUEUE")
    # What the call asked for holds for the retry too.
    with pytest.raises(StartTimeout):
        again.get(timeout=WAIT_S)
    busy.cancel()
    eventually(lambda: busy.state, "REVOKED")


def test_what_cannot_be_run_again_is_refused_in_words(world: World, failing: Path) -> None:
    moody, fast = world.endpoint("moody"), world.endpoint("fast")
    done = fast.delay(a=1)
    done.get(timeout=WAIT_S)
    body = chord([moody.s(a=1), fast.s(a=2)], collect.s()).delay()
    members = group([moody.s(a=1), fast.s(a=2)]).delay()
    for result in (body, members):
        with pytest.raises(Exception, match="asked for it"):
            result.get(timeout=WAIT_S)
    alone = moody.delay(a=3)
    with pytest.raises(JobFailed):
        alone.get(timeout=WAIT_S)
    waiting = fast.apply_async(({"a": 1},), countdown=600)
    eventually(lambda: waiting.reason, "COUNTDOWN")
    before = len(world.jobs())
    in_chord = next(member.id for member in body.parent.results if member.state == "FAILURE")
    in_group = next(member.id for member in members.results if member.state == "FAILURE")
    for endpoint, task_id, why in (
        (fast, done.id, "has not failed"),
        (moody, in_chord, "group or chord"),
        (moody, in_group, "group or chord"),
        (fast, alone.id, "of endpoint moody"),
        (fast, waiting.id, "has not ended"),
        (fast, "no-such-task", "no job of this namespace"),
    ):
        with pytest.raises(RetryRefused, match=why):
            endpoint.retry(task_id)
    waiting.cancel()
    eventually(lambda: waiting.state, "REVOKED")
    with pytest.raises(RetryRefused, match="CANCELLED"):
        fast.retry(waiting.id)
    assert len(world.jobs()) == before


def test_an_errback_that_runs_its_own_job_again_comes_to_an_end(world: World, failing: Path) -> None:
    key = uuid.uuid4().hex
    before = len(world.jobs("moody"))
    first = world.endpoint("moody").s(a=1).on_error(retry_for_ever.s("moody", key)).apply_async()
    eventually(lambda: world.redis.llen(key), 4, within_s=120)
    *again, refused = world.redis.lrange(key, 0, -1)
    assert len(world.jobs("moody")) == before + 4
    assert "3 times already" in refused
    assert "--force" in refused
    failing.unlink()
    assert world.endpoint("moody").retry(again[-1], force=True).get(timeout=WAIT_S) == {"again": {"a": 1}}
    assert first.state == "FAILURE"


# a job without output


def test_a_chain_does_not_go_on_without_an_output(world: World) -> None:
    key = uuid.uuid4().hex
    last = chain(world.endpoint("huge").s(a=1), note.s(key)).delay()
    with pytest.raises(OutputMissing, match="20 MB") as caught:
        last.parent.get(timeout=WAIT_S)
    assert caught.value.job_id
    eventually(lambda: last.parent.state, "FAILURE")
    assert world.endpoint("fast", allow_empty_output=True).delay({}).get(timeout=WAIT_S) is None
    with pytest.raises(OutputMissing, match="empty dict"):
        world.endpoint("fast", retries=2).delay({}).get(timeout=WAIT_S)
    assert world.redis.llen(key) == 0
    assert len(world.jobs("huge")) == 1
    again = world.endpoint("huge").retry(last.parent.id)
    with pytest.raises(OutputMissing):
        again.get(timeout=WAIT_S)


# holds


@pytest.mark.parametrize("which", ["fast", None])
def test_nothing_is_submitted_until_it_is_resumed(world: World, which: str | None) -> None:
    running = world.endpoint("slow").delay(a=0)
    eventually(lambda: running.state, "IN_PROGRESS")
    _asking.pause(which, app=world.app())
    try:
        before = len(world.jobs("fast"))
        held = [world.endpoint("fast").delay(a=number) for number in range(3)]
        eventually(lambda: [job.reason for job in held], ["ON_HOLD"] * 3)
        # What RunPod has goes on, and is delivered.
        assert running.get(timeout=WAIT_S) == {"a": 0}
        assert len(world.jobs("fast")) == before
        # They would be asked about again long after this test has given up: only `resume` makes them due.
        in_an_hour = time.time() + 3600
        world.redis.hset("{runpod:fast}:pause:run", "hold_until", in_an_hour)
        world.redis.zadd("{runpod:fast}:due", {job.id: in_an_hour for job in held}, xx=True)
    finally:
        assert _asking.resume(which, app=world.app())
    assert [job.get(timeout=WAIT_S) for job in held] == [{"a": number} for number in range(3)]


def test_workers_of_an_older_version_are_told_as_such(world: World) -> None:
    with pytest.raises(ConfigurationError, match="older version"):
        ask("runpod.of_tomorrow", app=world.app())


# cancel


def test_cancel_by_the_endpoint(world: World) -> None:
    job = world.endpoint("queued").delay(a=1)
    eventually(lambda: job.state, "IN_PROGRESS")
    with pytest.raises(InvalidInput, match="job of endpoint queued"):
        world.endpoint("fast").cancel(job.id)
    assert job.state == "IN_PROGRESS"
    world.endpoint("queued").cancel(job.id)
    eventually(lambda: job.state, "REVOKED")
