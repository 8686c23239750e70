"""The gate of all submits: what trouble costs at its onset, one probe after a pause, and the hold."""

from __future__ import annotations

from typing import Any

import pytest

from celery_app.watchdog.overdue_checks import heal
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod._store.submits import Post
from celery_runpod.api import Health, Job
from celery_runpod.errors import EndpointNotFound, RateLimited, SubmissionUnconfirmed, Unavailable, decode
from celery_runpod.options import Options
from config.profiles import Profile
from tasks.cancel import cancel_jobs
from tasks.submit import submit
from tests.builders import ENDPOINT, Bench

THREADS = 32
"""POSTs side by side, as many as a worker's RUNPOD_HTTP_THREADS."""


def unavailable() -> Unavailable:
    return Unavailable("503", "run", ENDPOINT, 503)


def waiting(bench: Bench, count: int, **changes: Any) -> list[str]:
    """Calls that were accepted, and not looked at yet."""
    ids = [f"t{number:04}" for number in range(count)]
    for task_id in ids:
        job = bench.job(task_id, **changes)
        bench.store.ids.index(job, (), ())
        assert bench.store.accept(job, bench.now) == "accepted"
        bench.now += 0.001
    return ids


def states(bench: Bench, ids: list[str]) -> dict[str, int]:
    found = [str(job.state) for job in bench.store.jobs(ENDPOINT, ids)]
    return {state: found.count(state) for state in set(found)}


def submits(bench: Bench, task_id: str) -> JobRecord:
    submit(bench.services, bench.record(task_id), bench.now)
    return bench.record(task_id)


def under_way(bench: Bench, ids: list[str], ends: Any) -> Any:
    """A POST during which others begin, as in threads; each then ends as `ends()` says."""
    rest = iter(ids)
    depth = 0

    def post() -> Any:
        nonlocal depth
        depth += 1
        if depth < THREADS:
            for task_id in rest:
                if bench.record(task_id).state is State.WAITING:
                    submits(bench, task_id)
                    break
        depth -= 1
        return ends()

    return post


def test_200_seconds_of_503_cost_the_posts_under_way_and_one_for_each_probe() -> None:
    bench = Bench()
    ids = waiting(bench, 100, options=Options(deadline=7200.0))
    bench.runpod.script["run"] = [under_way(bench, ids, unavailable)] * 1000
    began = bench.now
    while bench.now < began + 200:
        heal(bench.services)
        bench.check(after_s=2)
    lost = bench.runpod.called("run")
    probes = bench.runpod.called("health")
    # 1, 2, 4 ... 60 s.
    assert probes <= 8
    assert lost <= THREADS + probes
    bench.runpod.script.clear()
    for _ in range(40):
        heal(bench.services)
        bench.check(after_s=2)
    ended = [job for job in bench.store.jobs(ENDPOINT, ids) if job.ended]
    assert all(isinstance(decode(job.outcome["error"]), SubmissionUnconfirmed) for job in ended)
    assert len(ended) <= lost
    assert {job.state for job in bench.store.jobs(ENDPOINT, ids)} <= {State.IN_QUEUE, State.ENDED_HERE}


def test_what_is_held_back_is_not_looked_at_again_and_again() -> None:
    bench = Bench()
    ids = waiting(bench, 20, options=Options(deadline=7200.0))
    bench.runpod.says("run", *[unavailable()] * 99)
    bench.check()
    read = 0

    def jobs(endpoint: str, some: list[str], light: Any = (), known: Any = bench.store.jobs) -> list[JobRecord]:
        nonlocal read
        read += len(some)
        return known(endpoint, some, light)

    bench.store.jobs = jobs  # type: ignore[method-assign]
    for _ in range(40):
        heal(bench.services)
        bench.check(after_s=1)
    assert read < 2 * len(ids)


def test_while_the_oldest_post_gets_no_answer_no_other_begins() -> None:
    bench = Bench()
    waiting(bench, 4)
    seen: list[str] = []

    def hangs() -> Unavailable:
        bench.now += 1.5
        seen.append(str(submits(bench, "t0001").state))
        bench.now += 1.0
        seen.append(submits(bench, "t0002").reason)
        seen.append(submits(bench, "t0003").reason)
        bench.now += 17.5
        return Unavailable("read timeout", "run", ENDPOINT)

    bench.runpod.says("run", hangs)
    assert submits(bench, "t0000").reason == "UNCONFIRMED"
    assert seen == ["IN_QUEUE", "API_SLOW", "API_SLOW"]
    assert bench.runpod.called("run") == 2
    assert ("t0002", "WAITING", {"reason": "API_SLOW"}) in bench.shown
    bench.check(after_s=3)
    heal(bench.services)
    bench.check()
    assert states(bench, ["t0002", "t0003"]) == {"IN_QUEUE": 2}


def test_a_post_that_comes_back_late_and_well_lets_the_others_go_at_once() -> None:
    bench = Bench()
    waiting(bench, 3)

    def slow() -> Job:
        bench.now += 3
        assert submits(bench, "t0001").reason == "API_SLOW"
        assert submits(bench, "t0002").reason == "API_SLOW"
        return Job("r1", "IN_QUEUE")

    bench.runpod.says("run", slow)
    submits(bench, "t0000")
    bench.check()
    assert states(bench, ["t0000", "t0001", "t0002"]) == {"IN_QUEUE": 3}
    assert bench.runpod.called("health") == 0


def test_where_answers_take_long_a_post_is_late_only_after_ten_of_their_medians() -> None:
    bench = Bench()
    waiting(bench, 9)

    def takes(seconds: float) -> Any:
        def post() -> Job:
            bench.now += seconds
            return Job("r1", "IN_QUEUE")

        return post

    for number, seconds in enumerate((0.8, 0.5, 0.9)):
        bench.runpod.says("run", takes(seconds))
        submits(bench, f"t{number:04}")
    seen = []

    def long() -> Job:
        bench.now += 7.5
        seen.append(str(submits(bench, "t0004").state))
        bench.now += 1.0
        seen.append(submits(bench, "t0005").reason)
        return Job("r9", "IN_QUEUE")

    bench.runpod.says("run", long)
    submits(bench, "t0003")
    assert seen == ["IN_QUEUE", "API_SLOW"]


def test_a_sync_submit_is_late_only_after_it_was_to_be_held() -> None:
    bench = Bench()
    waiting(bench, 1, options=Options(deadline=600.0, sync=True))
    for task_id in ("a", "b"):
        bench.store.accept(bench.job(task_id), bench.now)
    seen = []

    def held() -> Job:
        bench.now += 21
        seen.append(str(submits(bench, "a").state))
        bench.now += 2
        seen.append(submits(bench, "b").reason)
        return Job("sync-1", "IN_PROGRESS")

    bench.runpod.says("runsync", held)
    submits(bench, "t0000")
    assert seen == ["IN_QUEUE", "API_SLOW"]


def paused(bench: Bench, count: int = 4) -> list[str]:
    """Calls of which the first one met a 503; the pause is just over."""
    ids = waiting(bench, count)
    bench.runpod.says("run", unavailable())
    submits(bench, ids[0])
    bench.now += 1.2
    return ids[1:]


def test_after_a_pause_health_answers_then_one_goes_then_the_others() -> None:
    bench = Bench()
    ids = paused(bench)
    seen = []

    def probe() -> Job:
        seen.extend([bench.runpod.called("health"), bench.runpod.called("run")])
        seen.extend(submits(bench, task_id).reason for task_id in ids[1:])
        return Job("r1", "IN_QUEUE")

    bench.runpod.says("run", probe)
    submits(bench, ids[0])
    assert seen == [1, 2, "PAUSED", "PAUSED"]
    bench.check()
    assert states(bench, ids) == {"IN_QUEUE": 3}
    assert bench.runpod.called("health") == 1


@pytest.mark.parametrize(
    "error", [Unavailable("502", "health", ENDPOINT, 502), RateLimited("slow", "health", ENDPOINT, 429)], ids=str
)
def test_without_an_answer_to_health_nothing_is_sent_and_the_pauses_double(error: Exception) -> None:
    bench = Bench()
    ids = paused(bench)
    bench.runpod.script["health"] = [error] * 99
    for _ in range(100):
        heal(bench.services)
        bench.check(after_s=1)
    assert bench.runpod.called("run") == 1
    assert 4 <= bench.runpod.called("health") <= 7
    assert states(bench, ids) == {"WAITING": 3}
    assert {job.attempt for job in bench.store.jobs(ENDPOINT, ids)} == {0}


def test_a_refusal_by_health_is_an_answer_and_the_post_is_what_is_judged() -> None:
    bench = Bench()
    ids = paused(bench)
    bench.runpod.says("health", EndpointNotFound("endpoint not found", "health", ENDPOINT, 404))
    assert submits(bench, ids[0]).state is State.IN_QUEUE


def test_a_probe_that_fails_makes_the_pause_longer_and_another_one_follows() -> None:
    bench = Bench()
    ids = paused(bench)
    bench.runpod.says("run", unavailable())
    submits(bench, ids[0])
    assert bench.store.pauses.paused_until(ENDPOINT, "run") == pytest.approx(bench.now + 2.2, abs=0.01)
    bench.check(after_s=2.1)
    assert bench.runpod.called("run") == 2
    bench.check(after_s=0.2)
    bench.check()
    assert states(bench, ids[1:]) == {"IN_QUEUE": 2}


def test_a_post_from_before_the_pause_neither_ends_it_nor_makes_it_longer() -> None:
    bench = Bench()
    waiting(bench, 3)

    def good() -> Job:
        bench.runpod.says("run", unavailable)
        submits(bench, "t0001")
        return Job("r1", "IN_QUEUE")

    bench.runpod.says("run", good)
    submits(bench, "t0000")
    until = bench.store.pauses.paused_until(ENDPOINT, "run")
    assert submits(bench, "t0002").reason == "PAUSED"
    assert until == bench.store.pauses.paused_until(ENDPOINT, "run") == pytest.approx(bench.now + 1.1, abs=0.01)


@pytest.mark.parametrize("where", ["health", "run"])
def test_a_probe_whose_process_dies_lapses(where: str) -> None:
    bench = Bench()
    ids = paused(bench)

    def dies() -> None:
        raise SystemExit

    bench.runpod.says(where, dies)
    # As a kill: nothing of ours runs after it.
    end, bench.store.submits.end_post = bench.store.submits.end_post, lambda *_: ("ended", 0.0)  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        submits(bench, ids[0])
    bench.store.submits.end_post = end  # type: ignore[method-assign]
    assert submits(bench, ids[1]).reason == "PAUSED"
    for _ in range(35):
        heal(bench.services)
        bench.check(after_s=1)
    assert states(bench, ids[1:]) == {"IN_QUEUE": 2}


def test_a_post_whose_process_died_holds_the_others_up_for_no_longer_than_a_post_may_take() -> None:
    bench = Bench()
    ids = waiting(bench, 2)
    dead = Post(ENDPOINT, "run", "dead", 0.0, bench.now + 25)
    assert bench.store.submits.claim_submit(bench.record(ids[0]), dead, bench.now, bench.now + 60).word == "go"
    bench.now += 3
    assert submits(bench, ids[1]).reason == "API_SLOW"
    heal(bench.services)
    bench.check()
    assert bench.record(ids[1]).state is State.WAITING
    bench.now += 22
    heal(bench.services)
    bench.check()
    assert bench.record(ids[1]).state is State.IN_QUEUE


def test_an_error_that_nobody_expects_leaves_no_post_under_way() -> None:
    bench = Bench()
    ids = waiting(bench, 2)
    bench.runpod.says("run", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        submits(bench, ids[0])
    bench.now += 3
    assert submits(bench, ids[1]).state is State.IN_QUEUE


@pytest.mark.parametrize("which", [ENDPOINT, "*"])
def test_on_hold_nothing_is_submitted_and_on_its_release_all_is(which: str) -> None:
    bench = Bench()
    ids = waiting(bench, 5)
    bench.redis.hset(bench.store.keys.holds(), which, bench.now)
    for _ in range(60):
        heal(bench.services)
        bench.check(after_s=1)
    assert states(bench, ids) == {"WAITING": 5}
    assert {job.reason for job in bench.store.jobs(ENDPOINT, ids)} == {"ON_HOLD"}
    assert bench.runpod.calls == []
    bench.redis.hdel(bench.store.keys.holds(), which)
    assert bench.store.submits.may_submit(ENDPOINT, bench.now, released=True) == 5
    bench.check()
    assert states(bench, ids) == {"IN_QUEUE": 5}


@pytest.mark.parametrize("where", ["health", "run"])
def test_a_cancel_while_its_job_is_the_probe_leaves_the_next_one_to_try(where: str) -> None:
    bench = Bench()
    ids = paused(bench)

    def cancelled() -> Any:
        cancel_jobs(bench.services, [ids[0]])
        return Health(idle=1) if where == "health" else Job("r1", "IN_QUEUE")

    bench.runpod.says(where, cancelled)
    assert submits(bench, ids[0]).state is State.CANCELLED
    assert bench.runpod.called("run") == (1 if where == "health" else 2)
    heal(bench.services)
    for _ in range(3):
        bench.check()
    assert states(bench, ids[1:]) == {"IN_QUEUE": 2}
    # What RunPod took meanwhile is cancelled there.
    assert bench.runpod.called("cancel") == (0 if where == "health" else 1)


def test_a_hold_put_on_while_the_probe_is_under_way_holds_the_others_and_on_its_release_all_go() -> None:
    bench = Bench()
    ids = paused(bench)

    def probe() -> Job:
        bench.redis.hset(bench.store.keys.holds(), "*", bench.now)
        assert submits(bench, ids[1]).reason == "ON_HOLD"
        return Job("r1", "IN_QUEUE")

    bench.runpod.says("run", probe)
    assert submits(bench, ids[0]).state is State.IN_QUEUE
    heal(bench.services)
    bench.check()
    assert states(bench, ids[1:]) == {"WAITING": 2}
    bench.redis.hdel(bench.store.keys.holds(), "*")
    bench.store.submits.may_submit(ENDPOINT, bench.now, released=True)
    bench.check()
    assert states(bench, ids) == {"IN_QUEUE": 3}


def test_a_release_lets_no_more_go_than_max_in_flight() -> None:
    bench = Bench({ENDPOINT: Profile(ENDPOINT, max_in_flight=2)})
    ids = waiting(bench, 5)
    bench.redis.hset(bench.store.keys.holds(), ENDPOINT, bench.now)
    bench.check(after_s=1)
    bench.redis.hdel(bench.store.keys.holds(), ENDPOINT)
    assert bench.store.submits.may_submit(ENDPOINT, bench.now, 2, released=True) == 2
    bench.check()
    assert states(bench, ids) == {"IN_QUEUE": 2, "WAITING": 3}
    assert states(bench, ids[:2]) == {"IN_QUEUE": 2}
    bench.runpod.says("status", *[Job(f"r{number}", "COMPLETED", output=1) for number in (1, 2)])
    bench.check(after_s=2)
    heal(bench.services)
    bench.check()
    assert states(bench, ids[2:4]) == {"IN_QUEUE": 2}


def test_the_hold_of_another_endpoint_holds_nothing() -> None:
    bench = Bench()
    bench.redis.hset(bench.store.keys.holds(), "another", bench.now)
    assert bench.accepted().state is State.IN_QUEUE


def test_a_release_that_was_lost_is_found_within_half_a_minute() -> None:
    bench = Bench()
    ids = waiting(bench, 5)
    bench.redis.hset(bench.store.keys.holds(), "*", bench.now)
    bench.check()
    bench.redis.delete(bench.store.keys.holds())
    for _ in range(34):
        heal(bench.services)
        bench.check(after_s=1)
    assert states(bench, ids) == {"IN_QUEUE": 5}


def test_what_runs_when_the_hold_is_put_on_is_looked_at_and_delivered() -> None:
    bench = Bench()
    bench.accepted()
    bench.redis.hset(bench.store.keys.holds(), "*", bench.now)
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=2)
    assert bench.record().state is State.COMPLETED


def test_deadlines_and_expires_are_kept_on_hold() -> None:
    bench = Bench()
    bench.redis.hset(bench.store.keys.holds(), "*", bench.now)
    bench.accepted("short", options=Options(deadline=20.0))
    bench.accepted("expires", expires_at=bench.now + 10)
    bench.check(after_s=11)
    assert bench.record("expires").outcome == {"reason": "expired"}
    bench.check(after_s=10)
    assert bench.record("short").state is State.ENDED_HERE
