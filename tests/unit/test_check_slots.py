"""Checks leave one process of the pool to the other tasks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from celery_app.overrides.check_slots import CheckSlots
from celery_runpod._protocol import CHECK_STATUS, RUN


class Pool:
    """A pool that begins what it is given; `held` counts the messages that wait here."""

    def __init__(self, most: int) -> None:
        self.begun: list[Any] = []
        self.held = 0
        self.slots = CheckSlots(self.begun.append, lambda: most, lambda: self.hold(1), lambda: self.hold(-1))

    def hold(self, by: int) -> None:
        self.held += by

    def take(self, name: str) -> Any:
        request = SimpleNamespace(type=name, ends=[])
        request.on_success = lambda *_: request.ends.append("success")
        request.on_failure = lambda *_: request.ends.append("failure")
        self.slots.take(request)
        return request


def test_checks_wait_for_each_other_and_nothing_else_does() -> None:
    pool = Pool(most=1)
    first, second, run = pool.take(CHECK_STATUS), pool.take(CHECK_STATUS), pool.take(RUN)
    assert pool.begun == [first, run] and pool.held == 1
    first.on_success(None)
    assert pool.begun == [first, run, second] and pool.held == 0
    assert first.ends == ["success"]


def test_a_check_that_fails_frees_its_place_once() -> None:
    pool = Pool(most=1)
    first, second, third = (pool.take(CHECK_STATUS) for _ in range(3))
    # Celery calls on_failure from on_success where the task raised.
    first.on_failure(None)
    first.on_success(None)
    assert pool.begun == [first, second]
    second.on_success(None)
    assert pool.begun == [first, second, third] and pool.held == 0


def test_a_check_that_the_pool_did_not_take_frees_its_place() -> None:
    pool = Pool(most=1)
    first, second = pool.take(CHECK_STATUS), pool.take(CHECK_STATUS)
    pool.slots.over(first)
    assert pool.begun == [first, second]


def test_what_waits_over_a_lost_connection_comes_again_by_itself() -> None:
    pool = Pool(most=1)
    first = pool.take(CHECK_STATUS)
    pool.take(CHECK_STATUS)
    pool.slots.forget()
    first.on_success(None)
    assert pool.begun == [first]


def test_checks_begin_again_after_a_connection_was_lost_with_one_that_never_began() -> None:
    pool = Pool(most=1)
    lost = pool.take(CHECK_STATUS)
    # Celery's pool drops what no process has begun, and says so to nobody.
    pool.slots.forget()
    again = pool.take(CHECK_STATUS)
    assert pool.begun == [lost, again]
    lost.on_success(None)
    waiting = pool.take(CHECK_STATUS)
    assert pool.begun == [lost, again] and pool.held == 1
    again.on_success(None)
    assert pool.begun == [lost, again, waiting]
