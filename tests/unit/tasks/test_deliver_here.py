"""A check delivers what it has ended itself; what it cannot deliver goes as a message."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from celery.exceptions import Reject
from celery.signals import task_prerun
from celery.worker.request import Request
from kombu.exceptions import OperationalError

from celery_runpod._protocol import FINISH
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.api import Job
from tasks import deliver_here
from tasks.cancel import BATCH, cancel_jobs
from tasks.check import Check
from tasks.deliver_here import MOST_CONTINUATION, MOST_JOINED, MOST_WAIT_S, Outcomes, resume
from tasks.outstanding import DELIVER_BATCH, DELIVER_S
from tasks.parking import park, unpark
from tests.builders import ENDPOINT, Bench

DELIVER = "runpod.deliver"


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.app.conf.update(task_default_queue="celery", task_publish_retry=False)

    @made.app.task(name="unit.after", shared=False)
    def after(*_: Any) -> None: ...

    return made


def accepted(bench: Bench, task_id: str = "t1", **options: Any) -> JobRecord:
    """A job at RunPod whose continuation has these options of Celery."""
    signature = json.loads(bench.job(task_id).continuation)
    signature["options"] |= options
    return bench.accepted(task_id, continuation=json.dumps(signature))


def check(bench: Bench, *answers: Any) -> None:
    """A check as a worker runs it, that meets these answers of RunPod."""
    bench.runpod.says("status", *answers)
    bench.now += 60
    Check(bench.services, ENDPOINT).run()


def completed(output: Any = "done", job_id: str = "r1") -> Job:
    return Job(job_id, "COMPLETED", output=output)


def state(bench: Bench, task_id: str = "t1") -> tuple[str, str]:
    """Celery's and the record's."""
    record = bench.redis.hget(bench.store.keys.job(ENDPOINT, task_id), "state")
    return str(bench.app.backend.get_task_meta(task_id, cache=False)["status"]), str(record)


def test_a_job_that_a_check_ends_is_delivered_without_a_message(bench: Bench) -> None:
    accepted(bench, chain=[dict(bench.app.signature("unit.after", task_id="next"))])
    check(bench, completed())
    assert state(bench) == ("SUCCESS", "DELIVERED")
    assert (bench.count(DELIVER), bench.count("celery")) == (0, 1)


def test_a_job_that_fails_in_a_check_fails_its_caller(bench: Bench) -> None:
    accepted(bench, link_error=[dict(bench.app.signature("elsewhere.errback", task_id="errback", immutable=True))])
    check(bench, Job("r1", "FAILED", error="boom"))
    assert state(bench) == ("FAILURE", "DELIVERED")
    assert (bench.count(DELIVER), bench.count("celery")) == (0, 1)


RICH: dict[str, Any] = {
    "group": "the-group",
    "group_index": 3,
    "root_id": "the-root",
    "parent_id": "the-task-before",
    "chain": [{"task": "unit.after", "args": [], "kwargs": {}, "options": {"task_id": "next"}}],
    "chord": {"task": "unit.after", "args": [], "kwargs": {}, "options": {"task_id": "body"}, "chord_size": 2},
    "callbacks": [{"task": "unit.after", "args": [], "kwargs": {}, "options": {"task_id": "link"}}],
    "errbacks": [{"task": "unit.after", "args": [], "kwargs": {}, "options": {"task_id": "errback"}}],
    "headers": {"tenant": "blue"},
    "stamped_headers": ["campaign"],
    "stamps": {"campaign": "spring"},
    "ignore_result": True,
    "reply_to": "somebody",
    "origin": "gen1@host",
    "replaced_task_nesting": 2,
}


@pytest.mark.parametrize(
    "request_of", [{}, RICH, {"delivery_info": {"priority": 7}}], ids=["plain", "rich", "priority"]
)
def test_finish_meets_the_request_that_a_message_would_give_it(bench: Bench, request_of: dict[str, Any]) -> None:
    task = bench.app.tasks[FINISH]
    task.push_request(**{"id": "t1", "delivery_info": {}, **request_of})
    try:
        continuation = park(task, task.request, queue=DELIVER, shadow="runpod.run[e1]")
    finally:
        task.pop_request()
    met: list[dict[str, Any]] = []

    def note(task: Any, **_: Any) -> None:
        met.append(dict(vars(task.request)))

    task_prerun.connect(note, sender=task)
    try:
        assert resume(bench.app, json.loads(continuation), ENDPOINT, "t1", 1)
    finally:
        task_prerun.disconnect(note, sender=task)
    unpark(bench.app, continuation, ENDPOINT, "t1", 1)
    with bench.app.connection_for_read() as connection:
        message = connection.default_channel.basic_get(DELIVER, no_ack=True)
    args, kwargs, follows = message.payload
    by_message = Request(message, app=bench.app)._request_dict | {"args": args, "kwargs": kwargs} | follows
    # What says by which way, and for which process, it came.
    for name in ("delivery_info", "properties", "hostname", "lang", "task", "origin"):
        del by_message[name]
    if "reply_to" not in request_of:
        del by_message["reply_to"]  # Celery names the thread that published
    (here,) = met
    priority = here.pop("delivery_info")["priority"]
    assert priority == message.properties.get("priority", 0) or (
        priority is None and not message.properties["priority"]
    )
    assert {name: here.get(name) for name in by_message} == by_message | {"args": (ENDPOINT, "t1", 1)}
    assert (here["headers"] or {}).get("tenant") == (request_of.get("headers") or {}).get("tenant")


def test_what_is_put_back_goes_as_a_message_and_so_does_the_rest_of_the_check(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        accepted(bench, f"t{number}")
    tried: list[str] = []

    def away(task_id: str, *_: Any, **__: Any) -> None:
        tried.append(task_id)
        raise OperationalError("gone")

    monkeypatch.setattr(bench.app.backend, "mark_as_done", away)
    check(bench, *(completed(job_id=f"r{number}") for number in (1, 2, 3)))
    assert len(tried) == 1
    assert bench.count(DELIVER) == 3
    # One pause for all, not one for each.
    assert bench.slept == [1.0]


def test_an_error_in_the_delivery_leaves_the_check_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(bench)

    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(deliver_here, "trace_task", broken)
    check(bench, completed())
    assert bench.count(DELIVER) == 1
    assert bench.redis.zcard(bench.store.keys.checks(ENDPOINT)) == 0


def test_what_may_take_long_goes_as_a_message(bench: Bench) -> None:
    accepted(bench, chain=[{"task": "unit.after", "args": ["x" * MOST_CONTINUATION]}])
    check(bench, completed())
    assert (state(bench), bench.count(DELIVER)) == (("PENDING", "COMPLETED"), 1)


def test_a_member_of_a_chord_of_many_goes_as_a_message_and_the_others_do_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last member joins all, and nobody knows which that will be. Celery keeps the size in the result backend."""
    tried: list[str] = []
    monkeypatch.setattr(deliver_here, "resume", lambda *given: tried.append(given[3]) is None)
    body = dict(bench.app.signature("unit.after", task_id="body"))
    for task_id, size in (("t0", MOST_JOINED + 1), ("t1", MOST_JOINED)):
        bench.app.backend.set(bench.app.backend.get_key_for_group(f"{task_id}'s", ".s"), size)
        accepted(bench, task_id, chord=body, group_id=f"{task_id}'s")
    accepted(bench, "t2")
    check(bench, *(completed(job_id=f"r{number}") for number in (1, 2, 3)))
    assert (tried, bench.count(DELIVER)) == (["t1", "t2"], 1)


def test_a_check_shows_that_it_is_alive_while_it_publishes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[float] = []
    outcomes = Outcomes(bench.services, lambda: signs.append(bench.now))

    def slow(*_: Any) -> None:
        bench.now += 3

    monkeypatch.setattr(deliver_here, "publish", slow)
    monkeypatch.setattr(deliver_here, "resume", lambda *_: False)
    assert outcomes.take(bench.job())
    outcomes.deliver_until_done()
    assert signs == [bench.now]


def test_nothing_is_delivered_while_a_job_is_submitted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the outcome ended the process, nobody could know whether RunPod took the job."""
    monkeypatch.setattr(deliver_here, "MOST_WAIT_S", 60)
    outcomes, posts, answered = Outcomes(bench.services), threading.Event(), threading.Event()
    tried: list[bool] = []
    monkeypatch.setattr(deliver_here, "resume", lambda *_: tried.append(answered.is_set()) is None)

    def submits() -> None:
        with outcomes.held():
            posts.set()
            answered.wait(60)

    with ThreadPoolExecutor() as threads:
        begun = threads.submit(submits)
        assert posts.wait(60)
        assert outcomes.take(accepted(bench))
        threading.Timer(0.1, answered.set).start()
        outcomes.deliver_until_done([begun])
    assert tried == [True]


def test_a_check_delivers_no_outcome_while_it_submits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_here, "MOST_WAIT_S", 60)
    bench.services = replace(bench.services, pool=ThreadPoolExecutor(2))
    accepted(bench, "t1")
    assert bench.store.accept(bench.job("t2"), bench.now) == "accepted"
    posts, taken, delivered = threading.Event(), threading.Event(), threading.Event()
    states: list[str] = []
    take = Outcomes.take

    def noted(outcomes: Outcomes, job: JobRecord) -> bool:
        took = take(outcomes, job)
        taken.set()
        return took

    def answer() -> Job:
        posts.set()
        assert taken.wait(60)
        # It has the time to be delivered, if it may.
        delivered.wait(0.3)
        return Job("r2", "IN_QUEUE")

    def deliver(*_: Any) -> bool:
        states.append(bench.record("t2").state)
        delivered.set()
        return True

    monkeypatch.setattr(Outcomes, "take", noted)
    monkeypatch.setattr(deliver_here, "resume", deliver)
    bench.runpod.says("run", answer)
    check(bench, lambda: completed() if posts.wait(60) else None)
    assert states == ["IN_QUEUE"]


def test_what_would_wait_long_for_a_submit_goes_as_a_message(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_here, "MOST_WAIT_S", 0)
    outcomes = Outcomes(bench.services)
    assert outcomes.take(accepted(bench))
    with outcomes.held():
        outcomes.deliver_until_done()
    assert (state(bench)[0], bench.count(DELIVER)) == ("PENDING", 1)
    # Those that come when the submit is over do not.
    assert outcomes.take(bench.accepted("t2"))
    outcomes.deliver_until_done()
    assert bench.count(DELIVER) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"options": null}'])
def test_a_continuation_that_cannot_be_read_is_left_to_what_ends_its_task(bench: Bench, text: str) -> None:
    outcomes = Outcomes(bench.services)
    assert not outcomes.take(bench.job(continuation=text))


def test_what_would_wait_for_long_goes_as_a_message_because_another_process_may_be_free(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = Outcomes(bench.services)
    tried: list[str] = []

    def slow(*given: Any) -> bool:
        tried.append(given[3])
        bench.now += 0.6 * MOST_WAIT_S
        return True

    monkeypatch.setattr(deliver_here, "resume", slow)
    for number in range(10):
        assert outcomes.take(accepted(bench, f"t{number}"))
    outcomes.deliver_until_done()
    # The first shows how long one takes.
    assert (tried, bench.count(DELIVER)) == (["t0", "t8", "t9"], 7)


def test_an_outcome_that_was_not_delivered_is_delivered_by_the_next_check(bench: Bench) -> None:
    job = accepted(bench)
    bench.store.record_outcome(job, State.COMPLETED, {"output": "done"}, bench.now, bench.now + 30)
    check(bench)
    assert (state(bench), bench.count(DELIVER)) == (("SUCCESS", "DELIVERED"), 0)


def test_an_outcome_whose_delivery_ended_a_process_goes_as_a_message_and_the_others_do_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not end check after check: those that it was recorded with would wait each time."""
    for task_id in ("t0", "t1", "t2"):
        job = accepted(bench, task_id)
        bench.store.record_outcome(job, State.COMPLETED, {"output": "done"}, bench.now, bench.now + 30)
    bench.store.claim_finish(ENDPOINT, "t0", 1, "a process that died", bench.now, bench.now + 30)
    tried: list[str] = []
    monkeypatch.setattr(deliver_here, "resume", lambda *given: tried.append(given[3]) is None)
    check(bench)
    assert (tried, bench.count(DELIVER)) == (["t1", "t2"], 1)


def test_an_outcome_that_ends_its_process_before_it_is_claimed_goes_as_a_message_at_the_second_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accepted(bench)
    bench.store.record_outcome(job, State.COMPLETED, {"output": "done"}, bench.now, bench.now + 30)
    tried: list[str] = []
    monkeypatch.setattr(deliver_here, "resume", lambda *given: tried.append(given[3]) is None)
    for _ in range(3):
        check(bench)
        bench.now += 600
    assert (tried, bench.count(DELIVER)) == (["t1"], 2)


def test_the_ends_of_a_large_cancel_are_left_to_checks(bench: Bench) -> None:
    ids = [f"t{number}" for number in range(BATCH + 1)]
    for task_id in ids:
        job = bench.job(task_id, root_id="root")
        bench.store.ids.index(job, (), ())
        bench.store.accept(job, bench.now)
    assert len(cancel_jobs(bench.services, ids)) == len(ids)
    assert bench.count(DELIVER) == 0
    Check(bench.services, ENDPOINT).run()
    assert {state(bench, task_id) for task_id in ids} == {("REVOKED", "DELIVERED")}
    assert bench.count(DELIVER) == 0


def test_a_check_leaves_the_outcomes_of_others_to_the_next_one_where_they_take_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2 * DELIVER_BATCH):
        job = bench.accepted(f"t{number}")
        bench.store.record_outcome(job, State.COMPLETED, {"output": "done"}, bench.now, bench.now)
    tried: list[str] = []

    def slow(*given: Any) -> bool:
        tried.append(given[3])
        bench.now += 2 * DELIVER_S / DELIVER_BATCH
        return True

    monkeypatch.setattr(deliver_here, "resume", slow)
    Check(bench.services, ENDPOINT).run()
    assert len(tried) == DELIVER_BATCH
    # The next one is planned for now.
    bench.now += 1
    Check(bench.services, ENDPOINT).run()
    assert len(tried) == len(set(tried)) == 2 * DELIVER_BATCH


def test_a_check_shows_that_it_is_alive_while_it_delivers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[float] = []
    outcomes = Outcomes(bench.services, lambda: signs.append(bench.now))

    def slow(*_: Any, **__: Any) -> bool:
        bench.now += 3
        return True

    monkeypatch.setattr(deliver_here, "resume", slow)
    monkeypatch.setattr(deliver_here, "MOST_WAIT_S", 600)
    began = bench.now
    for _ in range(3):
        assert outcomes.take(bench.job())
    over: Future[None] = Future()
    over.set_result(None)
    outcomes.deliver_until_done([over])
    assert signs == [began + 3, began + 6, began + 9]


def test_a_reject_of_the_tracer_itself_is_a_message_put_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def rejects(*_: Any, **__: Any) -> Any:
        raise Reject("the end cannot be stored", requeue=True)

    monkeypatch.setattr(deliver_here, "trace_task", rejects)
    assert not resume(bench.app, json.loads(bench.job().continuation), ENDPOINT, "t1", 1)


def test_a_shared_job_is_not_delivered_itself(bench: Bench) -> None:
    """Each call that waits for it is taken on its own."""
    outcomes = Outcomes(bench.services)
    assert not outcomes.take(replace(bench.job(), shares=True))
