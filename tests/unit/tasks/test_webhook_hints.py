"""What a worker makes of a webhook's hint: /status alone gives verdicts, ids and errors."""

from __future__ import annotations

from typing import Any

import pytest

from celery_runpod._protocol import FORMAT
from celery_runpod._store.states import State
from celery_runpod._store.store import HINT_EVERY_S, MOST_CANDIDATES
from celery_runpod.api import Job
from celery_runpod.errors import DeadlineExceeded, JobNotFound, StatusStuck, SubmissionUnconfirmed, Unavailable, decode
from celery_runpod.options import Options
from tasks.delivery import end_by_answer
from tasks.gate import plan_post
from tests.builders import ENDPOINT, HOOKS, Bench, answered

LONG = Options(deadline=6 * 3600.0)


def hint(bench: Bench, job_id: str = "", *, task_id: str = "t1", attempt: int = 1) -> str:
    return bench.store.hint(ENDPOINT, task_id, attempt, bench.now, job_id)


def unanswered(task_id: str = "t1", **env: str) -> Bench:
    bench = Bench(**env)
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    bench.accepted(task_id)
    # No check is on its way.
    bench.redis.delete(bench.store.keys.next_check_at(ENDPOINT))
    return bench


def running(**env: str) -> Bench:
    """A job that RunPod works on since 30 s, of a worker with webhooks."""
    bench = Bench(**HOOKS, **env)
    bench.accepted(options=LONG)
    bench.runpod.says("status", Job("r1", "IN_PROGRESS"))
    bench.check(after_s=30)
    assert bench.record().state is State.IN_PROGRESS
    return bench


def error_of(bench: Bench, task_id: str = "t1") -> Exception:
    outcome = bench.record(task_id).outcome
    assert outcome is not None
    return decode(outcome["error"])


# The hint


def test_a_hint_makes_the_job_due_now_and_asks_for_a_check() -> None:
    bench = running()
    assert bench.due() > 5  # type: ignore[operator]
    assert hint(bench) == "publish"
    assert bench.due() == pytest.approx(0, abs=1e-3)
    assert bench.record().hinted_at == bench.now
    bench.runpod.says("status", Job("r1", "COMPLETED", output="of /status"))
    bench.check()
    assert bench.record().outcome["output"] == "of /status"  # type: ignore[index]


def test_a_hint_without_an_open_attempt_changes_nothing() -> None:
    bench = running()
    before = bench.redis.hgetall(bench.store.keys.job(ENDPOINT, "t1"))
    keys = set(bench.redis.keys())
    assert hint(bench, attempt=2) == hint(bench, task_id="nobody") == "closed"
    assert bench.redis.hgetall(bench.store.keys.job(ENDPOINT, "t1")) == before
    end_by_answer(bench.services, bench.record(), Job("r1", "COMPLETED", output=1))
    assert hint(bench) == "closed"
    bench.deliver()
    assert hint(bench) == "closed"
    assert {key for key in bench.redis.scan_iter() if "candidates" in key} == set()
    assert not {key for key in set(bench.redis.keys()) - keys if "nobody" in key}


def test_a_record_of_a_newer_version_is_left_to_it() -> None:
    bench = running()
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "t1"), "format", FORMAT + 1)
    assert hint(bench) == "closed"


def test_one_check_is_published_for_many_hints_until_it_begins() -> None:
    bench = Bench()
    for task_id in ("t1", "t2", "t3"):
        bench.accepted(task_id, options=LONG)
    bench.now += 0.6
    bench.redis.delete(bench.store.keys.next_check_at(ENDPOINT))
    assert [hint(bench, task_id=task_id) for task_id in ("t1", "t2", "t3")] == ["publish", "planned", "planned"]
    bench.check()
    assert hint(bench, task_id="t3") == "planned"
    # The check that was planned meanwhile is lost.
    bench.now += HINT_EVERY_S + 60
    assert hint(bench, task_id="t3") == "publish"


def test_hints_without_end_make_a_job_due_every_few_seconds_only() -> None:
    bench = running()
    asked = bench.runpod.called("status")
    for _ in range(100):
        hint(bench)
        bench.check(after_s=0.2)
    # 20 s: by hints every 5 s, and by the looks that grow from 1 s after the first one.
    assert bench.runpod.called("status") - asked <= 14


def test_a_check_that_holds_the_job_leaves_the_time_that_a_hint_has_set() -> None:
    bench = running()

    def meanwhile() -> Job:
        assert hint(bench) == "publish"
        return Job("r1", "IN_PROGRESS")

    bench.runpod.says("status", meanwhile)
    bench.check(after_s=15)
    assert bench.due() == pytest.approx(0, abs=1e-3)


def test_a_hint_that_comes_before_the_answer_of_the_submit_makes_the_job_due_at_once() -> None:
    bench = Bench()

    def meanwhile() -> Job:
        assert hint(bench) == "unnamed"
        assert hint(bench, "r1") == "publish"
        return Job("r1", "IN_QUEUE")

    bench.runpod.says("run", meanwhile)
    job = bench.accepted()
    assert (job.state, job.job_id) == (State.IN_QUEUE, "r1")
    assert bench.due() == pytest.approx(0, abs=1e-3)


def test_a_webhook_that_is_there_before_status_knows_the_end_is_looked_after_soon() -> None:
    bench = running()
    hint(bench)
    bench.runpod.says("status", Job("r1", "IN_PROGRESS"))
    bench.check()
    assert bench.due() == pytest.approx(1)
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=1.01)
    assert bench.record().state is State.COMPLETED


# Adoption


def test_an_id_that_status_knows_is_adopted_as_soon_as_it_is_named() -> None:
    bench = unanswered()
    assert hint(bench) == "unnamed"
    assert hint(bench, "r-hook") == "publish"
    bench.runpod.says("status", Job("r-hook", "COMPLETED", output="paid for"))
    bench.check(after_s=0.1)
    job = bench.record()
    assert (job.state, job.job_id, job.outcome["output"]) == (State.COMPLETED, "r-hook", "paid for")  # type: ignore[index]
    assert bench.runpod.called("run") == 1
    # The POST's own answer, long after: nothing is cancelled.
    assert answered(bench.store, job, "r-hook", bench.now, bench.now) == "already_ended"
    assert bench.store.outstanding(ENDPOINT, bench.now).cancels == 0


def test_an_id_that_status_does_not_know_is_dropped_and_the_window_closes() -> None:
    bench = unanswered()
    hint(bench, "r-wrong")
    bench.runpod.says("status", *[JobNotFound("no such job", "status", ENDPOINT, 404)] * 2)
    bench.check(after_s=0.1)
    for _ in range(8):
        bench.check(after_s=8)
    assert isinstance(error_of(bench), SubmissionUnconfirmed)
    assert bench.runpod.called("status") == 2


def test_the_right_id_is_adopted_beside_wrong_ones() -> None:
    bench = unanswered()
    assert [hint(bench, job_id) for job_id in ("a-wrong", "r-right")] == ["publish", "planned"]

    def status() -> Job:
        _, _, job_id = bench.runpod.calls[-1]
        if job_id != "r-right":
            raise JobNotFound("no such job", "status", ENDPOINT, 404)
        return Job(job_id, "IN_PROGRESS")

    bench.runpod.says("status", status, status)
    bench.check(after_s=0.1)
    assert (bench.record().state, bench.record().job_id) == (State.IN_PROGRESS, "r-right")
    assert bench.store.submits.candidates(bench.record()) == []


def test_ids_are_kept_up_to_a_bound() -> None:
    bench = unanswered()
    words = [hint(bench, f"r{number}") for number in range(MOST_CANDIDATES + 3)]
    assert words == ["publish", *["planned"] * (MOST_CANDIDATES - 1), *["full"] * 3]
    assert hint(bench, "r0") == "planned"
    assert bench.redis.ttl(bench.store.keys.candidates(ENDPOINT, "t1", 1)) > 0


@pytest.mark.parametrize("holder", ["open", "delivered", "an earlier attempt"])
def test_an_id_that_another_record_or_tombstone_holds_is_not_adopted(holder: str) -> None:
    bench = Bench()
    if holder == "an earlier attempt":
        job = bench.accepted(options=Options(deadline=600.0, retries=1))
        bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
        end_by_answer(bench.services, job, Job("r1", "FAILED", error="no face"))
        bench.check(after_s=2)
        mine = ("t1", 2)
    else:
        other = bench.accepted("other")
        if holder == "delivered":
            end_by_answer(bench.services, other, Job("r1", "COMPLETED", output="other's"))
            bench.deliver("other")
        bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
        bench.accepted("t1")
        mine = ("t1", 1)
    assert bench.record().state is State.SUBMITTING
    hint(bench, "r1", task_id=mine[0], attempt=mine[1])
    bench.runpod.says("status", Job("r1", "COMPLETED", output="other's"))
    bench.check(after_s=0.1)
    assert (bench.record().state, bench.record().job_id) == (State.SUBMITTING, None)
    assert bench.store.submits.candidates(bench.record()) == []


def test_an_id_ended_by_its_submit_is_held_too() -> None:
    bench = Bench()
    bench.runpod.says("runsync", Job("sync-1", "COMPLETED", output=1))
    bench.accepted("other", options=Options(deadline=600.0, sync=True))
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    job = bench.accepted()
    hint(bench, "sync-1")
    assert bench.store.submits.adopt(job, "sync-1", bench.now) == "taken"


def test_the_index_of_runpods_ids_goes_with_the_tombstone() -> None:
    bench = Bench()
    job = bench.accepted(options=Options(deadline=7 * 86_400.0))
    key = bench.store.keys.by_job_id(ENDPOINT, "r1")
    assert bench.redis.get(key) == "t1"
    assert bench.redis.ttl(key) > 7 * 86_400
    end_by_answer(bench.services, job, Job("r1", "COMPLETED", output=1))
    bench.deliver()
    assert bench.redis.ttl(key) == bench.redis.ttl(bench.store.keys.job(ENDPOINT, "t1")) == 3600


def test_while_the_post_may_still_be_answered_no_id_is_asked_for() -> None:
    """Its own answer needs no webhook, so that a forged one changes nothing."""
    bench = Bench()
    job = bench.job()
    bench.store.ids.index(job, (), ())
    bench.store.accept(job, bench.now)
    post = plan_post(bench.services, job, bench.now)
    bench.store.submits.claim_submit(job, post, bench.now, bench.now + bench.settings.window_s(False))
    hint(bench, "r-foreign")
    bench.check(after_s=1)
    assert (bench.record().state, bench.runpod.called("status")) == (State.SUBMITTING, 0)
    assert bench.due() == pytest.approx(bench.settings.longest_post_s - 1)
    assert answered(bench.store, bench.record(), "r-own", bench.now + 1, bench.now) == "accepted"
    assert bench.record().job_id == "r-own"


def test_an_outage_of_status_does_not_close_the_window_over_a_named_job() -> None:
    bench = unanswered()
    hint(bench, "r-hook")
    bench.runpod.says("status", *[Unavailable("HTTP 503", "status", ENDPOINT, 503)] * 3)
    for _ in range(3):
        bench.check(after_s=40)
    assert bench.record().state is State.SUBMITTING
    bench.check(after_s=61)
    assert (bench.record().state, bench.record().job_id) == (State.IN_QUEUE, "r-hook")


# A /status that is stuck: runpod-python#250


def reopened(bench: Bench) -> Any:
    """30 s in the queue, 10 s of work, over which a late progress update lies."""
    return Job("r1", "IN_PROGRESS", output="99 %", has_output=True, delay_s=30.0, execution_s=10.0)


@pytest.mark.parametrize("hinted", [True, False])
def test_a_stuck_status_ends_in_an_error_when_runpod_keeps_the_result_no_longer(hinted: bool) -> None:
    bench = running()
    bench.now += 10
    if hinted:
        hint(bench)
    started, waits = bench.now, []
    while bench.record().state is State.IN_PROGRESS:
        bench.runpod.says("status", reopened(bench))
        bench.check()
        if (due := bench.due()) is not None:
            waits.append(due)
            bench.now += due + 0.001
    error = error_of(bench)
    assert isinstance(error, StatusStuck)
    assert "runpod-python#250" in str(error)
    assert 1800 <= bench.now - started <= 1800 + 301
    assert max(waits) <= 300.001
    assert waits[5:] == sorted(waits[5:])
    assert len(waits) < 25
    assert bench.runpod.called("cancel") == 1


def test_a_stuck_status_is_shown_as_the_reason() -> None:
    bench = running()
    bench.now += 10
    for _ in range(2):
        bench.runpod.says("status", reopened(bench))
        bench.check(after_s=61)
    assert bench.record().reason == "STATUS_STUCK"


def test_a_stuck_status_ends_at_the_deadline_if_that_comes_first() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0))
    bench.now += 40
    for _ in range(2):
        bench.runpod.says("status", reopened(bench))
        bench.check(after_s=61)
    bench.check(after_s=500)
    assert isinstance(error_of(bench), StatusStuck)


def test_a_result_that_comes_after_all_is_delivered() -> None:
    bench = running()
    bench.now += 10
    bench.runpod.says("status", reopened(bench))
    bench.check(after_s=100)
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=301)
    assert bench.record().state is State.COMPLETED


def test_a_hint_alone_ends_no_job_before_its_deadline() -> None:
    """Whoever has the URL can give one at any time, of a job that goes on for hours."""
    bench = running()
    hint(bench)
    while bench.now < bench.record().end_by - 200:
        bench.runpod.says("status", Job("r1", "IN_PROGRESS"))
        bench.check()
        assert 0 < bench.due() <= 135  # type: ignore[operator]
        bench.now += bench.due() + 0.001  # type: ignore[operator]
    assert bench.record().state is State.IN_PROGRESS
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    hint(bench)
    bench.check()
    assert bench.record().state is State.COMPLETED


def test_without_a_hint_a_deadline_is_told_as_one() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))
    bench.runpod.says("status", Job("r1", "IN_PROGRESS"))
    bench.check(after_s=30)
    bench.check(after_s=31)
    assert isinstance(error_of(bench), DeadlineExceeded)
