"""max_in_flight: so many jobs of an endpoint are at RunPod, the others wait in the order of their calls."""

from __future__ import annotations

from celery_app.watchdog.overdue_checks import heal
from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import StartTimeout, decode
from celery_runpod.options import Options
from config.profiles import Profile
from tasks.cancel import cancel_jobs
from tests.builders import ENDPOINT, Bench


def bench_for(most: int) -> Bench:
    return Bench(profiles={ENDPOINT: Profile(ENDPOINT, max_in_flight=most)})


def calls(bench: Bench, count: int, **changes: object) -> None:
    for number in range(count):
        bench.accepted(f"t{number}", **changes)
        bench.now += 0.1


def states(bench: Bench, count: int) -> list[str]:
    return [str(bench.record(f"t{number}").state) for number in range(count)]


def test_what_has_no_place_waits_and_says_why() -> None:
    bench = bench_for(2)
    calls(bench, 4)
    assert states(bench, 4) == ["IN_QUEUE", "IN_QUEUE", "WAITING", "WAITING"]
    assert bench.record("t3").reason == "MAX_IN_FLIGHT"
    assert ("t3", "WAITING", {"reason": "MAX_IN_FLIGHT"}) in bench.shown
    bench.check(after_s=5)
    assert bench.runpod.called("run") == 2


def test_a_place_goes_to_the_oldest_call() -> None:
    bench = bench_for(1)
    calls(bench, 3)
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=2)
    bench.accepted("newcomer")
    assert bench.record("newcomer").state is State.WAITING
    bench.check()
    assert states(bench, 3) == ["COMPLETED", "IN_QUEUE", "WAITING"]


def test_every_end_frees_the_place() -> None:
    bench = bench_for(1)
    calls(bench, 4, options=Options(deadline=60.0))
    cancel_jobs(bench.services, ["t0"])
    bench.check()
    assert states(bench, 4)[:2] == ["CANCELLED", "IN_QUEUE"]
    bench.now = bench.record("t1").end_by
    bench.check()
    assert bench.record("t1").state is State.ENDED_HERE


def test_a_place_whose_news_was_lost_with_a_process_is_found_by_the_self_healing_thread() -> None:
    bench = bench_for(1)
    calls(bench, 2)
    # As if the process had died between the outcome and its next step.
    one = bench.record("t0")
    answer = bench.store.record_outcome(one, State.COMPLETED, {"output": 1}, bench.now, bench.now + 30)
    assert answer == "recorded_others_wait"
    bench.now += 0.5
    heal(bench.services)
    bench.check()
    assert bench.record("t1").state is State.IN_QUEUE


def test_a_larger_limit_or_none_lets_those_who_wait_in() -> None:
    bench = bench_for(1)
    calls(bench, 4)
    bench.settings.profiles[ENDPOINT] = Profile(ENDPOINT)
    bench.accepted("newcomer")
    assert bench.record("newcomer").state is State.IN_QUEUE
    heal(bench.services)
    bench.check()
    assert states(bench, 4) == ["IN_QUEUE"] * 4


def test_a_job_that_waits_too_long_ends_with_the_reason() -> None:
    bench = bench_for(1)
    calls(bench, 2, options=Options(deadline=60.0, start_timeout=20.0))
    bench.check(after_s=21)
    error = decode(bench.record("t1").outcome["error"])
    assert isinstance(error, StartTimeout)
    assert "MAX_IN_FLIGHT" in str(error)
    assert bench.redis.zcard(bench.store.keys.waiting(ENDPOINT)) == 0


def test_the_limit_is_the_endpoints_by_whatever_name_it_was_called() -> None:
    profiles = {"sdxl": Profile(ENDPOINT, max_in_flight=3), "sdxl-fast": Profile(ENDPOINT, max_in_flight=2)}
    bench = Bench(profiles={**profiles, "sdxl-free": Profile(ENDPOINT), "other": Profile("e2", max_in_flight=1)})
    for number, name in enumerate(("sdxl", ENDPOINT, "sdxl-free", "sdxl-fast", ENDPOINT)):
        bench.accepted(f"t{number}", name=name)
    assert states(bench, 5) == ["IN_QUEUE"] * 2 + ["WAITING"] * 3
    # Nor are those that wait made due again and again.
    bench.now += 0.5
    heal(bench.services)
    assert min(bench.due(f"t{number}") or 0 for number in (2, 3, 4)) > 500
