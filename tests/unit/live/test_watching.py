"""The changes of a job, for one who waits in a thread; time is injected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod._live.job_update import JobUpdate
from celery_runpod._live.watching import LOOK_EVERY_S, PATIENCE_S, followed

QUEUED = JobUpdate("t1", "IN_QUEUE", "COLD_START")
RUNNING = JobUpdate("t1", "IN_PROGRESS", progress=1)
DONE = JobUpdate("t1", "SUCCESS", ended=True, result="x")


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def scripted(*answers: Any) -> Callable[[], JobUpdate]:
    """Answers one by one, the last for ever."""
    left = list(answers)

    def look() -> JobUpdate:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, JobUpdate)
        return answer

    return look


def watched(look: Callable[[], JobUpdate], timeout_s: float | None = None, time: Time | None = None) -> list[JobUpdate]:
    time = time or Time()
    found = followed(look, None, timeout_s=timeout_s, clock=time.clock, sleep=time.sleep)
    return [update for update in found if isinstance(update, JobUpdate)]


def test_each_change_comes_once_and_the_end_is_the_last() -> None:
    time = Time()
    found = watched(scripted(QUEUED, QUEUED, RUNNING, RUNNING, RUNNING, DONE), time=time)
    assert found == [QUEUED, RUNNING, DONE]
    assert time.slept == [LOOK_EVERY_S] * 5


def test_a_job_that_has_ended_costs_one_look() -> None:
    time = Time()
    assert watched(scripted(DONE), time=time) == [DONE] and time.slept == []


def test_after_its_time_a_watch_ends_without_an_end() -> None:
    time = Time()
    found = watched(scripted(QUEUED), timeout_s=1.2, time=time)
    assert (found, found[-1].ended) == ([QUEUED], False)
    assert time.now == pytest.approx(101.2)
    assert watched(scripted(QUEUED), timeout_s=0) == [QUEUED]


def test_a_restart_of_redis_is_waited_for() -> None:
    away = RedisConnectionError("away")
    assert watched(scripted(QUEUED, away, away, away, DONE)) == [QUEUED, DONE]


def test_a_redis_that_stays_away_is_an_error() -> None:
    time = Time()
    look = scripted(QUEUED, RedisConnectionError("away"))
    found = followed(look, None, timeout_s=None, clock=time.clock, sleep=time.sleep)
    assert next(found) == QUEUED
    with pytest.raises(RedisConnectionError):
        next(found)
    assert time.now - 100.0 >= PATIENCE_S
