"""Other news of a job, between the moment in which a check reads it and its own verdict: the news count. Once: whatever
goes on around a job, its own verdict falls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from celery_runpod._store.states import State
from celery_runpod.api import Health, Job
from celery_runpod.errors import EndpointNotFound, JobNotFound, Unavailable
from celery_runpod.options import Options
from tasks.cancel import cancel_jobs
from tasks.crash_points import Step
from tasks.idempotency import join
from tasks.submit import submit
from tests.builders import ENDPOINT, HOOKS, NOW, Bench, answered


def bench_of_two(**env: str) -> Bench:
    """A check can run while another waits for an answer."""
    bench = Bench(**env)
    bench.services = replace(bench.services, pool=ThreadPoolExecutor(4))
    return bench


@pytest.mark.parametrize("how", ["its answer comes late", "a webhook names it"])
def test_a_submit_whose_outcome_becomes_known_while_its_window_closes_is_confirmed(how: str) -> None:
    bench = bench_of_two(**HOOKS)
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    bench.accepted(options=Options(deadline=6 * 3600.0))
    read, found = bench.store.jobs, []

    def then_known(endpoint: str, ids: Any, light: Any = ()) -> Any:
        found.extend(read(endpoint, ids, light))
        bench.store.jobs = read  # type: ignore[method-assign]
        assert found[0].state is State.SUBMITTING
        if how == "its answer comes late":
            assert answered(bench.store, found[0], "r7", bench.now + 2, bench.now) == "accepted"
        else:
            bench.store.hint(ENDPOINT, "t1", 1, bench.now, "r7")
            bench.runpod.says("status", Job("r7", "IN_PROGRESS"))
            bench.check()
        return found

    bench.store.jobs = then_known  # type: ignore[method-assign]
    bench.check(after_s=900)
    bench.check(after_s=1)
    assert (bench.record().state in (State.IN_QUEUE, State.IN_PROGRESS), bench.record().job_id) == (True, "r7")
    assert bench.runpod.called("cancel") == 0


@pytest.mark.parametrize(
    ("answer", "state"),
    [(Job("r1", "IN_PROGRESS"), State.IN_PROGRESS), (Job("r1", "FAILED", error="boom"), State.WAITING)],
    ids=["begun", "retried"],
)
def test_a_start_timeout_does_not_fall_on_a_job_that_has_begun_or_is_retried(answer: Job, state: State) -> None:
    """Health is asked for what the error shows, and that takes a moment."""
    bench = bench_of_two(**HOOKS)
    bench.accepted(options=Options(deadline=600.0, start_timeout=60.0, retries=3))

    def health() -> Health:
        bench.store.hint(ENDPOINT, "t1", 1, bench.now)
        bench.runpod.says("status", answer)
        bench.check()
        return Health(idle=1)

    bench.runpod.says("status", Job("r1", "IN_QUEUE"))
    bench.runpod.says("health", health)
    bench.check(after_s=60)
    assert bench.record().state is state
    assert bench.runpod.called("cancel") == 0


def test_a_start_timeout_does_not_fall_on_a_job_that_another_look_has_seen_begin() -> None:
    bench = bench_of_two()
    bench.accepted(options=Options(deadline=600.0, start_timeout=60.0))
    job = bench.record()
    job_in_queue = replace(job, state=State.IN_QUEUE)

    def begun() -> Job:
        word = bench.store.observe(
            job_in_queue, lease_of(bench), bench.now + 40, state=State.IN_PROGRESS, reason="", checks=2
        )
        assert word == "changed"
        return Job("r1", "IN_QUEUE")

    bench.runpod.says("status", begun)
    bench.check(after_s=60)
    assert bench.record().state is State.IN_PROGRESS
    assert bench.runpod.called("cancel") == 0


def lease_of(bench: Bench) -> float:
    orders = (bench.store.keys.look(ENDPOINT), bench.store.keys.due(ENDPOINT))
    return next(float(score) for one in orders if (score := bench.redis.zscore(one, "t1")) is not None)


def test_a_webhook_at_the_deadline_of_an_unanswered_submit_is_followed_first() -> None:
    bench = bench_of_two(**HOOKS)
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    bench.accepted(options=Options(deadline=60.0))
    bench.now += 60
    bench.store.hint(ENDPOINT, "t1", 1, bench.now, "r7")
    bench.runpod.says("status", Job("r7", "COMPLETED", output=7))
    bench.check()
    assert (bench.record().outcome or {})["output"] == 7


def test_a_webhook_that_names_no_job_of_runpods_puts_no_deadline_off_for_long() -> None:
    bench = bench_of_two(**HOOKS)
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    bench.accepted(options=Options(deadline=60.0))
    bench.now += 60
    bench.store.hint(ENDPOINT, "t1", 1, bench.now, "forged")
    bench.runpod.script["status"] = [JobNotFound("unknown", "status", ENDPOINT, 404)] * 100
    while bench.record().state is State.SUBMITTING and bench.now < NOW + 80:
        bench.check(after_s=max(bench.due() or 0, 1))
    assert bench.record().state is State.ENDED_HERE


def called(bench: Bench, task_id: str) -> bool:
    """A call that shares its job with others; whether it is the one that has it submitted."""
    job = bench.job(task_id, options=Options(deadline=600.0, idempotency_key="order-7"))
    bench.store.ids.index(job, (), ())
    word, _, shared = join(bench.services, job, bench.now)
    assert word == "accepted"
    if shared is not None:
        submit(bench.services, shared, bench.now)
    return shared is not None


def test_a_call_that_joins_during_the_last_look_keeps_the_job() -> None:
    bench = bench_of_two()
    assert called(bench, "t1")

    def joins() -> Job:
        called(bench, "t2")
        return Job("r1", "IN_PROGRESS")

    bench.runpod.says("status", joins)
    bench.check(after_s=600)
    bench.runpod.says("status", Job("r1", "IN_PROGRESS"))
    bench.check()
    assert bench.record("t1").state is State.ENDED_HERE
    assert bench.record("t2").state is State.JOINED
    assert bench.runpod.called("cancel") == 0
    bench.runpod.says("status", Job("r1", "COMPLETED", output=7))
    bench.check(after_s=599)
    assert (bench.record("t2").outcome or {})["output"] == 7


def test_a_check_that_stood_still_does_not_submit_a_retry_before_its_time() -> None:
    bench = Bench()
    job = bench.job(options=Options(deadline=600.0, retries=3))
    bench.store.ids.index(job, (), ())
    bench.store.accept(job, bench.now)
    as_read = bench.record()
    bench.check(after_s=41)
    bench.runpod.says("status", Job("r1", "FAILED", error="boom"))
    bench.check(after_s=2)
    assert bench.record().state is State.WAITING
    submit(bench.services, as_read, NOW + 40)
    assert (bench.record().state, bench.runpod.called("run")) == (State.WAITING, 1)


def test_a_process_that_stood_still_before_its_post_sends_nothing_after_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(RUNPOD_UNCONFIRMED_SUBMIT="resubmit")
    job = bench.job(options=Options(deadline=6 * 3600.0))
    bench.store.ids.index(job, (), ())
    bench.store.accept(job, bench.now)
    slept: list[str] = []

    def stands_still(step: str) -> None:
        if step == Step.SUBMIT_INTENT_STORED and not slept:
            slept.append(step)
            bench.check(after_s=bench.settings.unconfirmed_window_s + 1)
            bench.check(after_s=1)
            assert (bench.record().attempt, bench.record().job_id) == (2, "r1")

    monkeypatch.setattr("tasks.submit.reach", stands_still)
    submit(bench.services, bench.record(), bench.now)
    assert bench.runpod.called("run") == 1
    assert (bench.record().attempt, bench.record().job_id) == (2, "r1")


def test_a_good_look_leaves_a_pause_that_began_meanwhile() -> None:
    bench = Bench()
    bench.accepted()
    bench.store.pauses.pause(ENDPOINT, "status", bench.now, 1.0, 0.0)

    def paused() -> Job:
        bench.store.pauses.pause(ENDPOINT, "status", bench.now, 60.0, 0.0)
        return Job("r1", "IN_PROGRESS")

    bench.runpod.says("status", paused)
    bench.check(after_s=3)
    assert bench.store.pauses.paused_until(ENDPOINT, "status") == bench.now + 60


@pytest.mark.parametrize(
    ("before", "waits_s"),
    [
        (Unavailable("reset", "cancel", ENDPOINT), 5.1),
        (EndpointNotFound("unknown", "cancel", ENDPOINT, 404), 6.0),
    ],
    ids=["other trouble", "the endpoint is not found"],
)
def test_a_cancel_is_not_given_up_at_a_first_404_about_its_job(before: Exception, waits_s: float) -> None:
    """One 404 may come from a replica that lags: the job would go on, and be paid for."""
    bench = Bench()
    bench.accepted()
    gone = JobNotFound("unknown", "cancel", ENDPOINT, 404)
    bench.runpod.says("cancel", before, gone, gone)
    cancel_jobs(bench.services, ["t1"])
    bench.check()
    for after_s, owed in ((waits_s, 1), (60.0, 0)):
        bench.check(after_s=after_s)
        assert bench.redis.zcard(bench.store.keys.cancels(ENDPOINT)) == owed


def test_an_unanswered_submit_that_a_webhook_names_as_its_window_closes_is_not_sent_again() -> None:
    bench = bench_of_two(**HOOKS, RUNPOD_UNCONFIRMED_SUBMIT="resubmit")
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    bench.accepted(options=Options(deadline=6 * 3600.0))
    read = bench.store.jobs

    def then_named(endpoint: str, ids: Any, light: Any = ()) -> Any:
        found = read(endpoint, ids, light)
        bench.store.jobs = read  # type: ignore[method-assign]
        bench.store.hint(ENDPOINT, "t1", 1, bench.now, "r7")
        return found

    bench.store.jobs = then_named  # type: ignore[method-assign]
    bench.check(after_s=900)
    bench.runpod.says("status", Job("r7", "COMPLETED", output=7))
    bench.check(after_s=1)
    assert (bench.record().outcome or {})["output"] == 7
    assert bench.runpod.called("run") == 1


def watched(bench: Bench) -> None:
    bench.store.watches.begin(ENDPOINT, "t1", bench.now)


def hinted(bench: Bench) -> None:
    bench.store.hint(ENDPOINT, "t1", 1, bench.now)


@pytest.mark.parametrize("what", [watched, hinted])
@pytest.mark.parametrize("gone", [True, False])
def test_watchers_and_webhooks_keep_no_job_from_its_end_however_slowly_runpod_answers(what: Any, gone: bool) -> None:
    """Each makes the job due again while a look at it takes its time."""
    bench = bench_of_two(**HOOKS)
    bench.accepted(options=Options(deadline=60.0))

    def slowly() -> Job:
        bench.now += 6
        what(bench)
        if gone:
            raise JobNotFound("unknown", "status", ENDPOINT, 404)
        return Job("r1", "IN_PROGRESS")

    bench.runpod.script["status"] = [slowly] * 100
    bench.check(after_s=60)
    bench.check(after_s=6)
    bench.check(after_s=6)
    assert bench.record().state is State.ENDED_HERE


def test_calls_that_join_put_off_the_deadline_and_no_other_verdict() -> None:
    bench = bench_of_two()
    numbers = count(1)

    def gone() -> Job:
        called(bench, f"t{next(numbers)}")
        raise JobNotFound("unknown", "status", ENDPOINT, 404)

    called(bench, f"t{next(numbers)}")
    bench.runpod.script["status"] = [gone] * 10
    for _ in range(6):
        bench.check(after_s=10)
    assert bench.record("t1").state is State.ENDED_HERE
