"""Checks leave one process of the pool to the other tasks."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from celery_app.overrides.check_slots import CheckSlots
from celery_runpod._protocol import CHECK_STATUS, RUN


class Pool:
    """A pool that begins what it is given; `held` counts the messages that wait here."""

    def __init__(self, processes: int) -> None:
        self.begun: list[Any] = []
        self.held = 0
        self.dropped: list[Any] = []
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.slots = CheckSlots(
            self.begun.append,
            lambda: processes,
            lambda: self.hold(1),
            lambda: self.hold(-1),
            self.dropped.append,
            lambda seconds, then: self.timers.append((self.now + seconds, then)),
            lambda: self.now,
        )

    def passes(self, seconds: float) -> None:
        """Time passes, and timers ring."""
        until = self.now + seconds
        while due := [one for one in self.timers if one[0] <= until]:
            self.timers.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = until

    def hold(self, by: int) -> None:
        self.held += by

    def take(self, name: str, endpoint: str = "e1") -> Any:
        request = SimpleNamespace(type=name, ends=[], args=[endpoint], kwargs={})
        request.on_success = lambda *_: request.ends.append("success")
        request.on_failure = lambda *_: request.ends.append("failure")
        self.slots.take(request)
        return request


def busy() -> Pool:
    """A pool of two processes, which another task has just come to."""
    pool = Pool(processes=2)
    pool.begun.remove(pool.take(RUN))
    return pool


def test_checks_wait_for_each_other_and_nothing_else_does() -> None:
    pool = busy()
    first, second, run = pool.take(CHECK_STATUS), pool.take(CHECK_STATUS), pool.take(RUN)
    assert pool.begun == [first, run] and pool.held == 1
    first.on_success(None)
    assert pool.begun == [first, run, second] and pool.held == 0
    assert first.ends == ["success"]


def test_a_check_that_fails_frees_its_place_once() -> None:
    pool = busy()
    first, second, third = (pool.take(CHECK_STATUS, f"e{number}") for number in range(3))
    # Celery calls on_failure from on_success where the task raised.
    first.on_failure(None)
    first.on_success(None)
    assert pool.begun == [first, second]
    second.on_success(None)
    assert pool.begun == [first, second, third] and pool.held == 0


def test_a_check_that_the_pool_did_not_take_frees_its_place() -> None:
    pool = busy()
    first, second = pool.take(CHECK_STATUS), pool.take(CHECK_STATUS)
    pool.slots.over(first)
    assert pool.begun == [first, second]


def test_what_waits_over_a_lost_connection_comes_again_by_itself() -> None:
    pool = busy()
    first = pool.take(CHECK_STATUS)
    pool.take(CHECK_STATUS)
    pool.slots.forget()
    first.on_success(None)
    assert pool.begun == [first]


def test_checks_begin_again_after_a_connection_was_lost_with_one_that_never_began() -> None:
    pool = busy()
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


def test_one_process_gives_the_other_tasks_as_much_time_as_a_check_took() -> None:
    pool = Pool(processes=1)
    first = pool.take(CHECK_STATUS)
    pool.passes(0.3)
    first.on_success(None)
    run = pool.take(RUN)
    second = pool.take(CHECK_STATUS)
    assert pool.begun == [first, run] and pool.held == 1
    others = []
    for _ in range(29):
        pool.passes(0.01)
        others.append(pool.take(RUN))
    assert pool.begun == [first, run, *others]
    pool.passes(0.015)
    pool.take(RUN)
    pool.passes(0.015)
    assert pool.begun[-1] is second and pool.held == 0
    assert not pool.timers


def test_one_process_is_not_idle_for_a_turn_that_nobody_takes() -> None:
    pool = Pool(processes=1)
    first = pool.take(CHECK_STATUS)
    second, third = pool.take(CHECK_STATUS), pool.take(CHECK_STATUS, "e2")
    pool.passes(10)
    first.on_success(None)
    assert pool.begun == [first, second] and pool.held == 1
    pool.take(RUN)
    second.on_success(None)
    pool.passes(0.03)
    assert pool.begun[-1] is third and pool.held == 0


def test_checks_of_more_processes_take_no_turns() -> None:
    pool = Pool(processes=2)
    first = pool.take(CHECK_STATUS)
    pool.passes(5)
    first.on_success(None)
    pool.take(RUN)
    second = pool.take(CHECK_STATUS)
    assert pool.begun[-1] is second and not pool.timers


def test_the_last_process_takes_a_short_check_while_no_other_task_comes() -> None:
    pool = Pool(processes=2)
    run, first, second = pool.take(RUN), pool.take(CHECK_STATUS), pool.take(CHECK_STATUS)
    assert pool.begun == [run, first] and pool.held == 1
    pool.passes(0.05)
    assert pool.begun == [run, first, second] and pool.held == 0


def test_the_last_process_takes_no_check_after_a_long_one_nor_beside_it() -> None:
    pool = slow_endpoint(processes=2)
    pool.take(RUN)
    first, second = pool.take(CHECK_STATUS, "slow"), pool.take(CHECK_STATUS, "slow2")
    pool.passes(0.5)
    assert second not in pool.begun
    first.on_success(None)
    assert pool.begun[-1] is second
    third = pool.take(CHECK_STATUS, "slow2")
    pool.passes(0.5)
    assert third not in pool.begun
    second.on_success(None)
    fourth = pool.take(CHECK_STATUS, "slow")
    pool.passes(0.05)
    assert third in pool.begun and fourth in pool.begun


def test_one_check_of_an_endpoint_waits_and_a_further_one_is_dropped() -> None:
    pool = busy()
    first, second, copy = (pool.take(CHECK_STATUS) for _ in range(3))
    other = pool.take(CHECK_STATUS, "e2")
    assert (pool.dropped, pool.held) == ([copy], 2)
    first.on_success(None)
    third = pool.take(CHECK_STATUS)
    assert pool.dropped == [copy] and pool.begun == [first, second]
    second.on_success(None)
    other.on_success(None)
    assert pool.begun == [first, second, other, third] and pool.held == 0


def slow_endpoint(processes: int) -> Pool:
    """A pool that has seen checks of the endpoints `slow` and `slow2` take 20 s."""
    pool = Pool(processes)
    for endpoint in ("slow", "slow2"):
        first = pool.take(CHECK_STATUS, endpoint)
        pool.passes(20)
        first.on_success(None)
    pool.begun.clear()
    return pool


def test_a_slow_endpoint_leaves_processes_to_the_checks_of_others() -> None:
    pool = slow_endpoint(processes=4)
    slow = [pool.take(CHECK_STATUS, endpoint) for endpoint in ("slow", "slow", "slow", "slow2")]
    others = []
    for number in range(10):
        others.append(pool.take(CHECK_STATUS, f"e{number}"))
        others[-1].on_success(None)
    assert pool.begun == [*slow[:2], *others] and pool.held == 2
    pool.passes(20)
    slow[0].on_success(None)
    assert pool.begun[-1] is slow[2] and pool.held == 1


def test_beside_a_slow_endpoint_the_last_process_takes_the_checks_of_others() -> None:
    pool = slow_endpoint(processes=2)
    slow = [pool.take(CHECK_STATUS, "slow") for _ in range(2)]
    pool.take(RUN)
    other = pool.take(CHECK_STATUS)
    assert other not in pool.begun
    pool.passes(0.05)
    assert pool.begun[-1] is other and slow[1] not in pool.begun
    other.on_success(None)
    pool.passes(1)
    assert not pool.timers and slow[1] not in pool.begun
    slow[0].on_success(None)
    assert pool.begun[-1] is slow[1] and pool.held == 0


def test_an_endpoint_is_slow_until_a_check_of_it_was_short() -> None:
    pool = slow_endpoint(processes=4)
    pool.take(CHECK_STATUS, "slow").on_success(None)
    again = [pool.take(CHECK_STATUS, "slow") for _ in range(3)]
    assert pool.begun[1:] == again


def test_an_endpoint_that_becomes_slow_is_noticed_while_its_first_check_runs() -> None:
    pool = Pool(processes=4)
    first = [pool.take(CHECK_STATUS, "slow") for _ in range(2)]
    pool.passes(3)
    pool.take(CHECK_STATUS, "slow")
    other = pool.take(CHECK_STATUS)
    assert pool.begun == [*first, other] and pool.held == 1


def test_endpoints_that_stream_have_all_processes_but_the_last() -> None:
    pool = Pool(processes=4)
    for _ in range(2):
        checks = [pool.take(CHECK_STATUS, f"e{number}") for number in range(3)]
        assert pool.begun[-3:] == checks
        pool.passes(1.2)
        for check in checks:
            check.on_success(None)
