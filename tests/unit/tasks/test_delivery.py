"""`finish` under Celery's own tracer: what it stores, what it sends, and that nothing but a verdict ends the task."""

from __future__ import annotations

import contextlib
import json
from contextlib import suppress
from typing import Any

import pytest
from celery import states
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod._protocol import FINISH
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.errors import JobFailed, encode
from celery_runpod.options import Options
from tasks import put_back
from tasks.cancel import cancel_jobs
from tasks.delivery import MOST_CLAIMS
from tasks.outstanding import repeat_outstanding
from tasks.parking import park, unpark
from tasks.undeliverable import MOST_PUBLISHES
from tests.builders import ENDPOINT, Bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    made.app.conf.update(task_default_queue="celery", task_publish_retry=False)

    @made.app.task(name="unit.after", shared=False)
    def after(*_: Any) -> None: ...

    return made


def ended(bench: Bench, output: Any = "done", error: Exception | None = None, **changes: Any) -> JobRecord:
    """A job whose verdict is recorded."""
    job = bench.accepted(**changes)
    state = State.COMPLETED if error is None else State.FAILED
    outcome = {"output": output, "error": None if error is None else encode(error)}
    assert bench.store.record_outcome(job, state, outcome, bench.now, bench.now + 30) == "recorded"
    return job


def finish(bench: Bench, attempt: int = 1, **request: Any) -> Any:
    """Run `finish` as a worker's child does; answers what became of it."""
    task = bench.app.tasks[FINISH]
    tracer = build_tracer(FINISH, task, app=bench.app)
    return tracer("t1", (ENDPOINT, "t1", attempt), {}, request={"id": "t1", "delivery_info": {}, "args": (), **request})


def state(bench: Bench) -> str:
    return str(bench.app.backend.get_task_meta("t1", cache=False)["status"])


def record_state(bench: Bench) -> Any:
    return bench.redis.hget(bench.store.keys.job(ENDPOINT, "t1"), "state")


def test_a_verdict_is_delivered_once(bench: Bench) -> None:
    ended(bench)
    chain = [bench.app.signature("unit.after", task_id="next")]
    finish(bench, chain=chain)
    assert (state(bench), record_state(bench)) == ("SUCCESS", "DELIVERED")
    finish(bench, chain=chain)
    assert bench.count("celery") == 1


def test_two_copies_side_by_side_send_the_next_task_once(bench: Bench) -> None:
    ended(bench)
    assert bench.store.claim_finish(ENDPOINT, "t1", 1, "the other copy", bench.now, bench.now + 60)[:2] == ("yours", 1)
    finish(bench, chain=[bench.app.signature("unit.after", task_id="next")])
    assert (state(bench), bench.count("celery")) == ("PENDING", 0)
    # The other one died: after its lease the repeat does it.
    bench.now += 61
    finish(bench, chain=[bench.app.signature("unit.after", task_id="next")])
    assert (state(bench), bench.count("celery")) == ("SUCCESS", 1)


@pytest.mark.parametrize("at", ["mark_as_done", "mark_as_failure"])
def test_a_backend_that_is_away_puts_the_message_back(bench: Bench, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    ended(bench, error=None if at == "mark_as_done" else JobFailed("boom", ENDPOINT, "t1"))
    times = iter([RedisConnectionError("gone")])
    store_result = bench.app.backend.store_result

    def once_away(*args: Any, **kwargs: Any) -> Any:
        for error in times:
            raise error
        return store_result(*args, **kwargs)

    monkeypatch.setattr(bench.app.backend, "store_result", once_away)
    with pytest.raises(Reject) as caught:
        finish(bench)
    assert caught.value.requeue
    # It answers again at once, and yet Celery has written nothing of its own.
    assert (state(bench), record_state(bench)) == ("PENDING", "COMPLETED" if at == "mark_as_done" else "FAILED")
    bench.now += 61
    finish(bench)
    assert state(bench) == ("SUCCESS" if at == "mark_as_done" else "FAILURE")
    assert record_state(bench) == "DELIVERED"


def test_a_backend_that_was_away_for_long_still_gets_the_output(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(bench)
    read, away = bench.app.backend.get_task_meta, [True]

    def unreadable(*args: Any, **kwargs: Any) -> Any:
        if away:
            raise RedisConnectionError("gone")
        return read(*args, **kwargs)

    monkeypatch.setattr(bench.app.backend, "get_task_meta", unreadable)
    for _ in range(3 * MOST_CLAIMS):
        finish(bench)
        bench.now += 61
    away.clear()
    finish(bench)
    assert (state(bench), bench.app.backend.get_result("t1")) == ("SUCCESS", "done")


def test_a_broker_that_is_away_when_the_next_task_is_sent_fails_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(bench)

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(bench.app.amqp, "_retry_publish", away)
        with pytest.raises(Reject) as caught:
            finish(bench, chain=[bench.app.signature("unit.after", task_id="next")])
    assert caught.value.requeue
    assert state(bench) == "PENDING"
    bench.now += 61
    finish(bench, chain=[bench.app.signature("unit.after", task_id="next")])
    assert (state(bench), bench.count("celery")) == ("SUCCESS", 1)


def test_a_store_that_is_away_puts_the_message_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(bench)

    def away(*_: Any, **__: Any) -> None:
        raise RedisConnectionError("gone")

    monkeypatch.setattr(bench.store.scripts, "run", away)
    finish(bench)
    assert state(bench) == "PENDING"
    assert bench.slept == [put_back.REQUEUE_PAUSE_S]


def test_stored_and_killed_before_the_chord_was_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(bench, output={"n": 1})
    told: list[Any] = []
    monkeypatch.setattr(bench.app.backend, "on_chord_part_return", lambda request, *news, **_: told.append(news))
    bench.store.claim_finish(ENDPOINT, "t1", 1, "killed", bench.now, bench.now + 60)
    bench.app.backend.store_result("t1", {"n": 1}, states.SUCCESS)
    bench.now += 61
    finish(bench, chord={"task": "unit.after"}, group="g", chain=[bench.app.signature("unit.after", task_id="next")])
    assert told == [("SUCCESS", {"n": 1})]
    assert (bench.count("celery"), record_state(bench)) == (0, "DELIVERED")


@pytest.mark.parametrize(
    ("state_of_body", "parent", "times"),
    [
        ("SUCCESS", "t1", 0),
        ("STARTED", "t1", 0),
        ("FAILURE", "t1", 0),
        ("PENDING", None, 1),
        # As the backend ends a body whose member failed, and one that a member of another call sent.
        ("FAILURE", None, 1),
        ("SUCCESS", "a member before", 1),
    ],
)
def test_a_chords_body_that_a_killed_delivery_had_sent_is_not_sent_again_once_it_has_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, state_of_body: str, parent: str | None, times: int
) -> None:
    ended(bench)
    told: list[Any] = []
    monkeypatch.setattr(bench.app.backend, "on_chord_part_return", lambda *news, **_: told.append(news))
    bench.store.claim_finish(ENDPOINT, "t1", 1, "killed", bench.now, bench.now + 60)
    bench.app.backend.store_result("t1", None, states.SUCCESS)
    if state_of_body != "PENDING":
        # What a task notes of its own failure is no exception, and nobody can read it as one.
        request = Context(id="body", parent_id=parent)
        bench.app.backend.store_result("body", {"step": 3}, state_of_body, request=request)
    bench.now += 61
    finish(bench, group="g", chord=bench.app.signature("unit.after", task_id="body"))
    assert len(told) == times
    assert (state(bench), record_state(bench)) == ("SUCCESS", "DELIVERED")


def test_an_error_that_is_the_result_is_told_to_the_chord_on_a_repeat_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(bench, error=JobFailed("boom", ENDPOINT, "t1"), options=Options(deadline=600.0, on_error="return"))
    told: list[Any] = []

    def killed_first(_: Any, *news: Any, **__: Any) -> None:
        told.append(news)
        if len(told) == 1:
            raise RedisConnectionError("gone")

    monkeypatch.setattr(bench.app.backend, "on_chord_part_return", killed_first)
    with pytest.raises(Reject):
        finish(bench, chord={"task": "unit.after"}, group="g")
    bench.now += 61
    finish(bench, chord={"task": "unit.after"}, group="g")
    assert state(bench) == "SUCCESS"
    assert told[0] == told[1]
    assert told[0][1]["error"]["type"] == "JobFailed"


def test_an_output_that_kills_finish_each_time_ends_in_a_typed_error(bench: Bench) -> None:
    ended(bench)
    for _ in range(MOST_CLAIMS):
        word, *_ = bench.store.claim_finish(ENDPOINT, "t1", 1, "killed", bench.now, bench.now + 60)
        assert word == "yours"
        bench.now += 61
    finish(bench)
    assert (state(bench), record_state(bench)) == ("FAILURE", "DELIVERED")
    assert type(bench.app.AsyncResult("t1").result).__name__ == "JobUndeliverable"


@pytest.mark.parametrize("how", ["cancelled", "failed", "done"])
def test_what_follows_and_always_raises_does_not_keep_a_task_from_its_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "cancelled":
        bench.accepted()
        cancel_jobs(bench.services, ["t1"])
    else:
        ended(bench, error=JobFailed("boom", ENDPOINT, "t1") if how == "failed" else None)

    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("an errback of another age")

    monkeypatch.setattr(bench.app.backend, "_call_task_errbacks", broken)
    monkeypatch.setattr(bench.app.amqp, "_retry_publish", broken)
    rounds = 0
    while record_state(bench) != "DELIVERED":
        rounds += 1
        assert rounds < 5 * MOST_CLAIMS
        with contextlib.suppress(Reject):
            finish(bench, errbacks=[{"task": "unit.after"}], chain=[bench.app.signature("unit.after", task_id="next")])
        bench.now += 61
    assert state(bench) == ("REVOKED" if how == "cancelled" else "FAILURE")


def test_what_the_caller_saw_as_revoked_stays_so(bench: Bench) -> None:
    ended(bench)
    bench.app.backend.mark_as_revoked("t1")
    finish(bench, chain=[bench.app.signature("unit.after", task_id="next")])
    assert (state(bench), bench.count("celery"), record_state(bench)) == ("REVOKED", 0, "DELIVERED")


def parked(bench: Bench, **request: Any) -> dict[str, Any]:
    task = bench.app.tasks[FINISH]
    task.push_request(id="t1", delivery_info={}, **request)
    try:
        text = park(task, task.request, queue="runpod.deliver", shadow="x")
    finally:
        task.pop_request()
    data: dict[str, Any] = loads(text)
    return data


def test_links_keep_their_ids_on_every_repeat(bench: Bench) -> None:
    link = dict(bench.app.signature("unit.after"))
    data = parked(bench, callbacks=[link], errbacks=[dict(bench.app.signature("unit.after"))])
    ids = [data["options"][name][0]["options"]["task_id"] for name in ("link", "link_error")]
    assert all(ids)
    sent = []
    for _ in range(2):
        unpark(bench.app, json.dumps(data), ENDPOINT, "t1", 1)
        with bench.app.connection_for_read() as connection:
            message = connection.default_channel.basic_get("runpod.deliver", no_ack=True)
        embed = message.decode()[2]
        sent.append([embed[name][0]["options"]["task_id"] for name in ("callbacks", "errbacks")])
    assert sent == [ids, ids]


@pytest.mark.parametrize("parent", [None, "the-task-before"])
def test_a_first_task_is_not_its_own_parent(bench: Bench, parent: str | None) -> None:
    unpark(bench.app, json.dumps(parked(bench, parent_id=parent)), ENDPOINT, "t1", 1)
    with bench.app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("runpod.deliver", no_ack=True)
    assert message.headers["parent_id"] == parent


def test_an_ignored_result_stores_nothing_and_links_repeat_under_their_ids(bench: Bench) -> None:
    ended(bench, ignore_result=True)
    link = bench.app.signature("unit.after", task_id="the-link")
    bench.store.claim_finish(ENDPOINT, "t1", 1, "killed after it had sent the link", bench.now, bench.now + 60)
    bench.now += 61
    finish(bench, callbacks=[link], ignore_result=True)
    assert (state(bench), record_state(bench)) == ("PENDING", "DELIVERED")
    with bench.app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("celery", no_ack=True)
    assert message.headers["id"] == "the-link"


def test_time_limits_and_expiry_of_the_caller_are_not_parked(bench: Bench) -> None:
    options = parked(bench, timelimit=(3, 2), expires="2026-01-01T00:00:00+00:00")["options"]
    assert [options.get(name) for name in ("time_limit", "soft_time_limit", "expires")] == [None, None, None]


def test_a_request_of_ours_takes_no_time_limit(bench: Bench) -> None:
    from celery_app.overrides.unrevoked_request import UnrevokedRequest

    request = UnrevokedRequest.__new__(UnrevokedRequest)
    request.time_limits = (3, 2)
    assert request.time_limits == (None, None)
    assert request.revoked() is False


def test_the_handlers_traceback_stands_below_ours_and_not_in_one_line(bench: Bench) -> None:
    error = JobFailed("boom", ENDPOINT, "t1", "r1", "ValueError", 'File "handler.py", line 3, in handler', {"a": 1})
    ended(bench, error=error)
    finish(bench)
    meta = bench.app.backend.get_task_meta("t1", cache=False)
    assert meta["traceback"].splitlines()[-1] == 'File "handler.py", line 3, in handler'
    assert meta["result"].args == error.args
    assert "handler.py" not in repr(error)


def test_a_chord_whose_join_fails_each_time_ends_in_a_typed_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(bench)
    body = bench.app.signature("unit.after", task_id="the-body")
    backend, joins = bench.app.backend, []
    backend.set(backend.get_key_for_group("g1", ".s"), "2")

    def killed(*_: Any, **__: Any) -> None:
        joins.append(bench.now)
        raise MemoryError

    monkeypatch.setattr(backend, "on_chord_part_return", killed)
    for _ in range(2 * MOST_CLAIMS):
        with suppress(Reject):
            finish(bench, group="g1", chord=body)
        bench.now += 61
    assert len(joins) == MOST_CLAIMS
    told = backend.get_task_meta("the-body", cache=False)
    assert (told["status"], type(told["result"]).__name__) == ("FAILURE", "JobUndeliverable")
    assert (state(bench), record_state(bench)) == ("SUCCESS", "DELIVERED")


def test_a_job_that_can_be_told_to_nobody_ends_as_a_tombstone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(bench)
    backend = bench.app.backend
    backend.set(backend.get_key_for_group("g1", ".s"), "2")
    monkeypatch.setattr(backend, "on_chord_part_return", _always_raises)
    monkeypatch.setattr(backend, "chord_error_from_stack", _always_raises)
    for _ in range(2 * MOST_CLAIMS + 1):
        with suppress(Reject):
            finish(bench, group="g1", chord=bench.app.signature("unit.after", task_id="the-body"))
        bench.now += 61
    assert (state(bench), record_state(bench)) == ("SUCCESS", "DELIVERED")


def _always_raises(*_: Any, **__: Any) -> None:
    raise MemoryError


def test_a_continuation_that_cannot_be_published_stops_no_other_and_ends(bench: Bench) -> None:
    for task_id in ("bad", "good"):
        job = bench.accepted(task_id)
        bench.store.record_outcome(job, State.COMPLETED, {"output": 1}, bench.now, bench.now + 1)
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "bad"), "continuation", '{"task": 7, "options": []}')
    bench.now += 2
    repeat_outstanding(bench.services, ENDPOINT, bench.now + 60, lambda: None)
    assert bench.count("runpod.deliver") == 1
    for _ in range(MOST_PUBLISHES):
        bench.now += 5
        repeat_outstanding(bench.services, ENDPOINT, bench.now + 60, lambda: None)
    told = bench.app.backend.get_task_meta("bad", cache=False)
    assert (told["status"], type(told["result"]).__name__) == ("FAILURE", "JobUndeliverable")
    assert bench.redis.hget(bench.store.keys.job(ENDPOINT, "bad"), "state") == "DELIVERED"


def sent_events(bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    def send_event(kind: str, **fields: Any) -> None:
        sent.append({"type": kind, **fields})
        if error is not None:
            raise error

    monkeypatch.setattr(bench.app.tasks[FINISH], "send_event", send_event)
    return sent


def test_the_end_that_flower_gets_is_the_jobs_and_not_the_deliverys(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sent_events(bench, monkeypatch)
    job = ended(bench, error=JobFailed("no memory", "sdxl", "t1"))
    finish(bench)
    (event,) = sent
    assert (event["type"], event["name"]) == ("task-failed", f"runpod.run[{job.name}]")
    assert event["failed"] == bench.now and "no memory" in event["exception"] and "no memory" in event["traceback"]


@pytest.mark.parametrize("error", [OperationalError("away"), RedisConnectionError("away"), OSError("away")], ids=repr)
def test_an_end_that_flower_does_not_get_is_the_callers_all_the_same(
    error: Exception, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sent_events(bench, monkeypatch, error)
    ended(bench, output={"url": "secret"})
    finish(bench)
    assert state(bench) == states.SUCCESS and bench.store.jobs(ENDPOINT, ["t1"]) == []
    assert [event["type"] for event in sent] == ["task-succeeded"] and "secret" not in str(sent)
