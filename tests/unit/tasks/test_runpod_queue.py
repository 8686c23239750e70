"""Looks at jobs in RunPod's queue: planned by their places, and made earlier when the queue moves faster."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod.api import Health, Job
from celery_runpod.errors import Unavailable
from celery_runpod.options import Backoff, Options
from tasks.cancel import cancel_jobs
from tests.builders import ENDPOINT, NOW, Bench

LENGTH_S = 10.0


class Queued:
    """RunPod with so many workers, first in, first out; each job takes `LENGTH_S` seconds."""

    def __init__(self, bench: Bench, workers: int) -> None:
        self.bench, self.workers = bench, workers
        self.submitted: list[str] = []
        self.at: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        self.looks: list[str] = []
        self.health_works = True
        bench.redis.rpush(bench.store.keys.lengths(ENDPOINT), *[LENGTH_S] * 50)
        bench.runpod.run = self.run  # type: ignore[method-assign]
        bench.runpod.status = self.status  # type: ignore[method-assign]
        bench.runpod.health = self.health  # type: ignore[method-assign]

    def run(self, endpoint: str, input: Any, **_: Any) -> Job:
        self.submitted.append(f"r{len(self.submitted)}")
        self.at[self.submitted[-1]] = self.bench.now
        return Job(self.submitted[-1], "IN_QUEUE")

    def move(self) -> None:
        """Free workers take the next jobs, now."""
        for job_id in self.submitted:
            if sum(end > self.bench.now for end in self.ends.values()) >= self.workers:
                return
            self.ends.setdefault(job_id, self.bench.now + LENGTH_S)

    def status(self, endpoint: str, job_id: str, **_: Any) -> Job:
        self.looks.append(job_id)
        end = self.ends.get(job_id, math.inf)
        if end <= self.bench.now:
            self.seen.setdefault(job_id, self.bench.now)
            return Job(job_id, "COMPLETED", output=1, execution_s=LENGTH_S)
        if end == math.inf:
            return Job(job_id, "IN_QUEUE")
        return Job(job_id, "IN_PROGRESS", delay_s=end - LENGTH_S - self.at[job_id])

    def health(self, endpoint: str, **_: Any) -> Health:
        if not self.health_works:
            raise Unavailable("away", "health", ENDPOINT)
        running = sum(end > self.bench.now for end in self.ends.values())
        return Health(in_progress=running, in_queue=len(self.submitted) - len(self.ends), running=running)

    def late_s(self) -> list[float]:
        """How late the ends were seen."""
        return [self.seen[job_id] - self.ends[job_id] for job_id in self.submitted]

    def go_on(self, until_s: float = math.inf) -> None:
        """Let RunPod work, and each check come when it is planned, until then or until every end was seen."""
        while self.bench.now < NOW + until_s and len(self.seen) < len(self.submitted):
            planned = float(self.bench.redis.hget(self.bench.store.keys.next_check_at(ENDPOINT), "at"))
            while self.bench.now < planned:
                self.bench.now = min(planned, self.bench.now + 0.25)
                self.move()
            self.bench.check()


def queued(bench: Bench, jobs: int, workers: int, options: Options | None = None) -> Queued:
    """So many jobs at RunPod, the first of them at work, and counted by /health."""
    runpod = Queued(bench, workers)
    for number in range(2 * workers + 1):
        bench.accepted(f"first{number}")
    runpod.move()
    runpod.go_on(4)
    for number in range(jobs):
        bench.accepted(f"t{number:03}", options=options or Options(deadline=6000.0))
    return runpod


def planned(bench: Bench, task_id: str) -> float:
    """When the next look at a job is planned, in seconds from now."""
    return float(bench.redis.zscore(bench.store.keys.look(ENDPOINT), task_id)) - bench.now


def test_a_job_behind_many_is_not_looked_at_before_it_can_have_ended() -> None:
    bench = Bench()
    queued(bench, jobs=50, workers=2)
    # One of the first and 49 others stand before it, by twos, each for 10 s; and it takes 10 s itself.
    assert planned(bench, "t049") == pytest.approx(0.9 * 250 + 10)


def test_looks_at_a_queue_are_few_and_on_time() -> None:
    bench = Bench()
    runpod = queued(bench, jobs=40, workers=3)
    runpod.go_on()
    assert len(runpod.looks) / len(runpod.submitted) <= 4
    assert statistics.median(runpod.late_s()) <= 0.05 * LENGTH_S + 0.5
    assert sorted(runpod.late_s())[38] <= 0.15 * LENGTH_S


def test_more_workers_make_looks_earlier() -> None:
    bench = Bench()
    runpod = queued(bench, jobs=40, workers=2)
    runpod.go_on(20)
    runpod.workers = 60
    runpod.go_on()
    assert max(runpod.late_s()) <= 0.2 * LENGTH_S


def test_a_cancel_of_what_stands_before_makes_looks_earlier() -> None:
    bench = Bench()
    runpod = queued(bench, jobs=40, workers=2)
    runpod.go_on(6)
    cancel_jobs(bench.services, [f"t{number:03}" for number in range(36)])
    runpod.submitted = [job_id for job_id in runpod.submitted if job_id in runpod.ends or int(job_id[1:]) >= 41]
    runpod.go_on()
    # Behind few jobs /health does not count.
    assert max(runpod.late_s()) <= LENGTH_S


def test_an_endpoint_whose_queued_jobs_were_all_cancelled_has_no_more_checks() -> None:
    bench = Bench()
    queued(bench, jobs=100, workers=1)
    keys = bench.store.keys
    assert bench.redis.zcard(keys.by_place(ENDPOINT)) > 0
    cancel_jobs(bench.services, bench.redis.zrange(keys.due(ENDPOINT), 0, -1))
    for task_id in bench.redis.zrange(keys.undelivered(ENDPOINT), 0, -1):
        bench.deliver(task_id)
    bench.redis.delete(keys.cancels(ENDPOINT))
    bench.check(after_s=5)
    assert not bench.redis.exists(keys.by_place(ENDPOINT))
    assert bench.redis.hget(keys.next_check_at(ENDPOINT), "at") is None


def test_without_an_answer_of_health_an_end_is_late_by_its_own_wait_at_most() -> None:
    bench = Bench()
    runpod = queued(bench, jobs=40, workers=2)
    runpod.go_on(20)
    runpod.health_works, runpod.workers = False, 60
    runpod.go_on()
    assert max(runpod.late_s()) <= 40


@pytest.mark.parametrize(
    "options",
    [Options(deadline=6000.0, backoff=Backoff(400.0, 1.0, 400.0, 0.0)), Options(deadline=6000.0, webhook=True)],
    ids=["backoff", "webhook"],
)
def test_a_look_that_was_planned_otherwise_is_not_made_earlier(options: Options) -> None:
    bench = Bench(RUNPOD_WEBHOOK_URL="https://example.org/hooks", RUNPOD_WEBHOOK_SECRET="s" * 40)
    runpod = queued(bench, jobs=40, workers=2, options=Options(deadline=6000.0, webhook=False))
    bench.accepted("other", options=options)
    before, usual = planned(bench, "other"), planned(bench, "t039")
    runpod.workers = 60
    runpod.move()
    bench.check(after_s=6)
    assert planned(bench, "other") == pytest.approx(before - 6)
    assert planned(bench, "t039") < usual - 6


def test_a_look_that_another_check_holds_is_not_moved() -> None:
    bench = Bench()
    runpod = queued(bench, jobs=40, workers=2)
    at = bench.now + planned(bench, "t039")
    leased = bench.store.lease_due(ENDPOINT, at, at + 40, 200, looks=200)
    assert "t039" in leased.looks
    bench.store.runpod_queue.look_earlier(ENDPOINT, {"t039": bench.now})
    assert bench.now + planned(bench, "t039") == pytest.approx(at + 40)
    assert runpod.submitted


def test_what_has_low_priority_stands_behind_all_others() -> None:
    bench = Bench()
    queued(bench, jobs=40, workers=2, options=Options(deadline=6000.0, low_priority=True))
    bench.accepted("usual")
    assert planned(bench, "usual") == pytest.approx(LENGTH_S)
    # Others may overtake it: it is looked at as if RunPod's workers were not counted.
    assert planned(bench, "t039") == pytest.approx(LENGTH_S)


def test_a_store_that_goes_away_during_the_first_post_does_not_lose_the_jobs_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()

    def away(*_: object) -> Any:
        raise RedisConnectionError("away")

    def run(endpoint: str, input: Any, **_: Any) -> Job:
        monkeypatch.setattr(bench.store.runpod_queue, "learned", away)
        return Job("r1", "IN_QUEUE")

    bench.runpod.run = run  # type: ignore[method-assign]
    assert bench.accepted().job_id == "r1"
