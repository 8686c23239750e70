"""RabbitMQ as the broker, with quorum queues: calls, canvas, and the apps that publish to it."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError

from celery_runpod import Endpoint, JobResult
from celery_runpod.errors import ConfigurationError, JobFailed
from tests.application import app, collect, note, note_error, same, wrap
from tests.commands import in_process
from tests.integration.rabbitmq.conftest import QUORUM, WAIT_S
from tests.pages import run_page
from tests.servers import ROOT, World
from tests.waiting import eventually


def test_the_queues_are_quorum_queues_that_lose_nothing(world: World) -> None:
    for name in ("runpod", "runpod.status", "runpod.deliver"):
        assert "x-queue-type" in str(world.rabbit.arguments_refused(name, {}))
        # A limit of deliveries would be refused here as another argument.
        assert world.rabbit.arguments_refused(name, QUORUM) is None


def test_single_job(world: World) -> None:
    result = world.endpoint("fast").delay({"prompt": "a cat"}, steps=30)
    assert result.get(timeout=WAIT_S) == {"prompt": "a cat", "steps": 30}


def test_nothing_fails_in_silence_on_the_way_of_a_job(world: World) -> None:
    """A check that could not be published was tried again, and seconds later every job had its result all the same."""
    logs = [server.log for server in world.stack.servers if server.name.startswith("runpod")]
    before = sum(log.read_text().count("[error ") for log in logs)
    world.endpoint("fast").delay(a=1).get(timeout=WAIT_S)
    assert sum(log.read_text().count("[error ") for log in logs) == before


def test_the_canvas_on_rabbitmq(world: World) -> None:
    fast, failing = world.endpoint("fast"), world.endpoint("failing")
    linked, failed = uuid.uuid4().hex, uuid.uuid4().hex
    flows = {
        "a chain": chain(wrap.s(1), fast.s(steps=3), wrap.s()),
        "a chord of chains": chord([chain(wrap.s(n), fast.s(), wrap.s()) for n in range(3)], collect.s()),
        "a chain into a group": chain(fast.s(a=1), group(fast.s(b=1), same.s(), fast.s(b=2)), collect.s()),
    }
    results = {name: flow.delay() for name, flow in flows.items()}
    fast.apply_async(({"a": 1},), link=note.s(linked))
    failure = failing.apply_async(({"a": 1},), link_error=note_error.s(key=failed))
    assert {name: result.get(timeout=WAIT_S) for name, result in results.items()} == {
        "a chain": {"value": {"value": 1, "steps": 3}},
        "a chord of chains": [{"value": {"value": n}} for n in range(3)],
        "a chain into a group": [{"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 2}],
    }
    with pytest.raises(JobFailed):
        failure.get(timeout=WAIT_S)
    eventually(lambda: world.redis.lrange(linked, 0, -1), ["{'a': 1}"])
    eventually(lambda: world.redis.lrange(failed, 0, -1), [f"JobFailed {failure.id}"])


def test_a_stream_is_read_while_its_job_runs_and_the_chain_goes_on(world: World) -> None:
    words = [f"word-{number}" for number in range(12)]
    flow = chain(world.endpoint("talks", stream=True).s(text=" ".join(words)), same.s()).delay()
    job = JobResult(flow.parent.id)
    chunks = job.stream(timeout=WAIT_S)
    first = next(chunks)
    assert (first.event, first.output) == ("chunk", "word-0") and not job.ready()
    assert [chunk.output for chunk in chunks] == words[1:]
    assert [chunk.output for chunk in JobResult(job.id).stream(first.id, timeout=WAIT_S)] == words[1:]
    assert flow.get(timeout=WAIT_S) == words


def test_a_stream_ends_with_its_jobs_cancel(world: World) -> None:
    job = world.endpoint("talks", stream=True).delay(text="word " * 200)
    chunks = job.stream(timeout=WAIT_S)
    assert next(chunks).output == "word"
    job.cancel()
    with pytest.raises(TaskRevokedError):
        list(chunks)


def test_cancel_ends_the_job_at_runpod_too(world: World) -> None:
    result = world.endpoint("slow").delay(a=1)
    eventually(lambda: result.state, "IN_PROGRESS", within_s=WAIT_S)
    job_id = result.job_id
    result.cancel()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT_S)
    eventually(lambda: [job["status"] for job in world.jobs("slow") if job["id"] == job_id], ["CANCELLED"])


def test_countdown_is_kept_in_the_store(world: World) -> None:
    result = world.endpoint("fast").apply_async(({"a": 1},), countdown=3)
    eventually(lambda: (result.state, result.reason), ("WAITING", "COUNTDOWN"))
    assert result.get(timeout=WAIT_S) == {"a": 1}


def test_countdowns_of_calls_by_name_keep_no_other_call_waiting(world: World) -> None:
    """More of them than the worker fetches: held in its memory, they would be all that it has."""
    sent: list[Any] = [
        app.send_task("runpod.run", args=[{"n": n}], kwargs={"endpoint": "fast"}, queue="runpod", countdown=600)
        for n in range(6)
    ]
    assert world.endpoint("fast").delay(a=1).get(timeout=WAIT_S) == {"a": 1}
    for one in sent:
        late = JobResult(one.id, app=app)
        eventually(lambda late=late: late.state, "WAITING")
        late.cancel()
        eventually(lambda late=late: late.state, "REVOKED", within_s=WAIT_S)


def test_a_row_of_beat_is_a_task_by_name(world: World) -> None:
    beat = """
from celery.schedules import schedule
from tests.application import app
row = {"task": "runpod.run", "schedule": schedule(1.0), "args": [{"beat": 1}], "kwargs": {"endpoint": "fast"},
       "options": {"queue": "runpod"}}
app.conf.beat_schedule = {"row": row}
app.Beat(schedule=SCHEDULE, loglevel="INFO").run()
"""
    program = beat.replace("SCHEDULE", repr(str(world.stack.folder / "beat")))
    server = world.stack.start("beat", [sys.executable, "-c", program], cwd=ROOT)
    eventually(lambda: any(job["input"] == {"beat": 1} for job in world.jobs("fast")), True, within_s=WAIT_S)
    world.stack.remove(server)


def test_a_webhook_brings_the_result(world: World) -> None:
    # The first look comes much later than the job's end.
    fast = world.endpoint("fast").using(backoff={"first": 600, "cap": 600})
    assert fast.delay(a=1).get(timeout=WAIT_S) == {"a": 1}


def test_100_calls_in_one_group(world: World) -> None:
    fast = world.endpoint("fast")
    result = group(fast.s(n=n) for n in range(100)).delay()
    assert result.get(timeout=WAIT_S) == [{"n": n} for n in range(100)]
    times = Counter(job["input"]["n"] for job in world.jobs("fast") if set(job["input"]) == {"n"})
    assert max(times.values()) == 1


def test_an_app_as_celerys_guide_for_quorum_queues_says(world: World) -> None:
    """It publishes to an exchange of its own."""
    theirs = _plain_app(world)
    theirs.conf.update(task_create_missing_queue_type="quorum", task_create_missing_queue_exchange_type="topic")
    fast = Endpoint("fast", app=theirs)
    assert fast.delay(a=1).get(timeout=WAIT_S) == {"a": 1}
    assert fast.health().idle >= 0
    result = Endpoint("slow", app=theirs).using(backoff={"first": 0.2, "cap": 0.5}).delay(a=1)
    eventually(lambda: result.state, "IN_PROGRESS", within_s=WAIT_S)
    result.cancel()
    eventually(lambda: result.state, "REVOKED", within_s=WAIT_S)


def test_processes_that_were_forked_after_a_call_share_no_connection(world: World) -> None:
    """As gunicorn does with --preload, and uwsgi."""
    program = f"""
import os
from celery import Celery
from celery_runpod import Endpoint
app = Celery("forking", broker={world.rabbit.url!r}, backend={world.redis_url!r})
fast = Endpoint("fast", app=app)
def call(who):
    for n in range(20):
        fast.apply_async(({{"forked": [who, n]}},), ignore_result=True)
call(0)
children = []
for who in (1, 2, 3):
    child = os.fork()
    if not child:
        call(who)
        raise SystemExit
    children.append(child)
call(4)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
call(5)
"""
    forking = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False)
    assert forking.returncode == 0, forking.stderr[-2000:]
    wanted = Counter((who, n) for who in range(6) for n in range(20))

    def submitted() -> Counter[Any]:
        return Counter(tuple(job["input"]["forked"]) for job in world.jobs("fast") if "forked" in job["input"])

    eventually(submitted, wanted, within_s=WAIT_S)


def _plain_app(world: World) -> Celery:
    """Another app of the user's, with Celery's defaults: classic queues, made when they are missing."""
    return Celery("plain", broker=world.rabbit.url, backend=world.redis_url, set_as_current=False)


def test_an_app_with_celerys_defaults_declares_our_queue_as_ours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any worker has declared it."""
    monkeypatch.setenv("RUNPOD_NAMESPACE", "untouched")
    plain = _plain_app(world)
    plain.send_task("runpod.run", args=[{}], kwargs={"endpoint": "fast"}, queue="untouched", ignore_result=True)
    assert world.rabbit.arguments_refused("untouched", QUORUM) is None
    assert world.rabbit.waiting("untouched") == 1


def test_a_process_without_celery_runpod_sends_what_the_docs_say(world: World) -> None:
    program = f"""
from celery import Celery
app = Celery("bare", broker={world.rabbit.url!r}, backend={world.redis_url!r})
app.conf.broker_transport_options = {{"confirm_publish": True}}
sent = app.send_task("runpod.run", args=[{{"bare": 1}}], kwargs={{"endpoint": "fast"}}, queue="runpod", declare=[])
print(sent.get(timeout=60))
"""
    bare = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False)
    assert bare.stdout.strip() == "{'bare': 1}", bare.stderr[-2000:]


def test_the_apps_own_queues_are_left_as_they_are(world: World) -> None:
    """The queue of what follows exists as a quorum queue; neither this app nor our worker knows that."""
    name = f"theirs-{uuid.uuid4().hex[:8]}"
    assert world.rabbit.arguments_refused(name, QUORUM) is None
    chain(world.endpoint("fast").s(a=1), same.s().set(queue=name)).delay()
    eventually(lambda: world.rabbit.waiting(name), 1, within_s=WAIT_S)


def test_a_queue_that_somebody_else_declared_is_told_in_words(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_NAMESPACE", "classic")
    assert world.rabbit.arguments_refused("classic", {}) is None
    with pytest.raises(ConfigurationError, match="rabbitmqctl delete_queue classic"):
        world.endpoint("fast").delay(a=1)
    env = {**world.stack.env, "RUNPOD_NAMESPACE": "classic"}
    with pytest.raises(ConfigurationError, match="rabbitmqctl delete_queue classic"):
        world.stack.worker("refuses", env=env, cwd=ROOT)
    doctor = in_process("doctor", env=env)
    assert doctor.returncode == 1
    assert "rabbitmqctl delete_queue classic" in doctor.stdout


def test_doctor_is_content(world: World) -> None:
    doctor = in_process("doctor", env=world.stack.env)
    lines = [line for line in doctor.stdout.splitlines() if "broker" in line or "queue" in line]
    assert any("RabbitMQ" in line and line.lstrip().startswith("ok") for line in lines), doctor.stdout
    assert not any("WRONG" in line for line in lines), doctor.stdout


def test_the_blocks_of_the_page_run(world: World, tmp_path: Path) -> None:
    """docs/rabbitmq.md, as a process that knows nothing of celery_runpod."""
    urls = {"amqp://user:password@127.0.0.1:5672//": world.broker_url, "redis://127.0.0.1:6379/0": world.redis_url}
    run_page("docs/rabbitmq.md", tmp_path, world.stack.env, replaced={**urls, '"sdxl"': '"fast"'})
