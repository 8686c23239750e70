"""When a job is looked at: few looks before it can have ended, and soon after it has."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import replace

import pytest

from celery_runpod.options import Backoff, Options
from tasks.schedule import ENOUGH, LONGEST_S, QUEUE_LONGEST_S, SOONEST_S, Lengths, until_next_look_s
from tests.builders import Bench

JOB = Bench().job()

LENGTHS: dict[str, Callable[[random.Random], float]] = {
    "5 s": lambda of: of.uniform(4.75, 5.25),
    "20 s": lambda of: of.uniform(19, 21),
    "60 s": lambda of: of.uniform(57, 63),
    "300 s": lambda of: of.uniform(285, 315),
    "10 to 120 s": lambda of: of.uniform(10, 120),
    "lognormal": lambda of: of.lognormvariate(4, 0.5),
}


def looked_at(lengths: Lengths, length_s: float, queued_s: float = 0.0) -> tuple[int, float]:
    """How many looks a job of this length takes, and how late its end is seen. The start is known from the first look
    that finds it in progress, as by RunPod's delayTime."""
    at, looks, started = 0.0, 0, False
    while True:
        job = replace(JOB, started_at=queued_s if started else None)
        at += until_next_look_s(job, looks, at, lengths, webhook=False, spread=0.5)
        looks += 1
        if at >= queued_s + length_s:
            return looks, at - queued_s - length_s
        started = at >= queued_s


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize("queued_s", [0.0, 40.0])
def test_looks_are_few_and_on_time(kind: str, queued_s: float) -> None:
    of = random.Random(kind)
    lengths = Lengths(LENGTHS[kind](of) for _ in range(200))
    jobs = [LENGTHS[kind](of) for _ in range(300)]
    seen = [looked_at(lengths, length_s, queued_s) for length_s in jobs]
    steady = kind in ("5 s", "20 s", "60 s", "300 s")
    late = statistics.median(late_s / length_s for (_, late_s), length_s in zip(seen, jobs, strict=True))
    assert late <= 0.05 or statistics.median(late_s for _, late_s in seen) <= 0.5 if steady else late <= 0.10
    # RunPod's SDK looks once a second.
    sdks = statistics.mean(length_s + queued_s for length_s in jobs)
    assert statistics.mean(looks for looks, _ in seen) <= max(3.5, sdks / 4)


def test_an_endpoint_that_has_ended_few_jobs_is_looked_at_in_exponential_backoff() -> None:
    few = Lengths([60.0] * (ENOUGH - 1))
    pauses = [until_next_look_s(JOB, looks, 0.0, few, webhook=False, spread=0.5) for looks in range(4)]
    assert pauses == pytest.approx([1, 1.5, 2.25, 3.375])


def test_a_backoff_of_its_own_is_kept() -> None:
    known = Lengths([60.0] * 50)
    own = replace(JOB, options=Options(backoff=Backoff(2.0, 3.0, 100.0, 0.0)))
    pauses = [until_next_look_s(own, looks, 0.0, known, webhook=False, spread=0.5) for looks in range(5)]
    assert pauses == [2, 6, 18, 54, 100]


def test_no_lengths_make_looks_without_pause_or_end() -> None:
    of = random.Random(1)
    for _ in range(300):
        lengths = Lengths(of.choice((0.0, 1e-9, of.uniform(0, 1e5))) for _ in range(of.randrange(ENOUGH, 50)))
        for taken_s in (None, 0.0, of.uniform(0, 2e5)):
            assert SOONEST_S <= lengths.pause_s(taken_s) <= LONGEST_S


@pytest.mark.parametrize(
    ("ahead_s", "waited_s", "pause_s"),
    [(0, 1e6, 10), (0.1, 1e6, 10.075), (40, 1e6, 40), (40, 30, 30), (40, 3, 10), (1e6, 1e5, QUEUE_LONGEST_S)],
)
def test_a_job_behind_others_in_the_queue_is_looked_at_when_most_of_them_are_done(
    ahead_s: float, waited_s: float, pause_s: float
) -> None:
    assert Lengths([10.0] * 50).pause_s(None, 900, ahead_s, waited_s=waited_s) == pause_s


def test_while_runpod_counts_what_is_in_progress_the_place_in_its_queue_says_when() -> None:
    lengths = Lengths([10.0] * 50)
    pauses = [lengths.pause_s(None, 900, ahead_s, counted=True) for ahead_s in (0, 40, 1e6)]
    assert pauses == [10, 0.9 * 40 + 10, QUEUE_LONGEST_S]


@pytest.mark.parametrize("really_s", [20, 100, 700, 3000, 9000])
def test_an_end_that_comes_before_what_stands_ahead_had_foretold_is_late_by_its_own_time_at_most(
    really_s: float,
) -> None:
    """More RunPod workers come: what would have taken hours takes minutes."""
    lengths, at = Lengths([10.0] * 50), 0.0
    while at < really_s:
        at += lengths.pause_s(None, 900, 9000.0, waited_s=at)
    assert at - really_s <= min(max(10.0, really_s), QUEUE_LONGEST_S)


def test_what_stands_far_behind_in_the_queue_shares_a_few_looks_a_second() -> None:
    """Without a window RunPod's queue may hold 100,000 jobs, submitted ten times faster than they end."""
    lengths = Lengths([20.0] * 50)
    looks_a_s = sum(1 / lengths.pause_s(None, ahead, ahead / 10, waited_s=1.0) for ahead in range(1_200, 100_000))
    assert looks_a_s < 110  # the budget is 200
    assert lengths.pause_s(None, 3_000, 300.0, waited_s=1.0) == 200.0


def test_a_job_in_the_queue_is_looked_at_while_a_worker_may_take_it() -> None:
    assert Lengths([3600.0] * 50).pause_s(None) == LONGEST_S
