"""A worker's time does not jump with the machine's clock, unless Redis says so too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_app.steady_clock import SteadyClock
from celery_app.watchdog.self_healing import refuse_wrong_clock
from celery_runpod.errors import ConfigurationError

NOW = 1_790_000_000.0


class Machine:
    """A machine's two clocks, and Redis'."""

    def __init__(self) -> None:
        self.wall, self.since_boot, self.redis, self.asked, self.away = NOW, 500.0, NOW, 0, False
        self.clock = SteadyClock(self.redis_time, lambda: self.wall, lambda: self.since_boot)

    def redis_time(self) -> float:
        self.asked += 1
        if self.away:
            raise RedisConnectionError("away")
        return self.redis

    def passes(self, seconds: float) -> None:
        self.wall, self.since_boot, self.redis = self.wall + seconds, self.since_boot + seconds, self.redis + seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_it_is_the_machines_clock_and_costs_one_question(machine: Machine) -> None:
    for _ in range(10):
        assert machine.clock() == pytest.approx(machine.wall)
        machine.passes(60)
    assert machine.asked == 1


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 300.0, 2.0])
def test_a_jump_that_redis_does_not_see_is_not_believed(machine: Machine, jump: float) -> None:
    machine.clock()
    machine.wall += jump
    assert machine.clock() == pytest.approx(NOW)
    machine.passes(60)
    assert machine.clock() == pytest.approx(NOW + 60)
    machine.wall -= jump
    machine.passes(60)
    assert machine.clock() == pytest.approx(NOW + 120)


def test_while_redis_is_away_a_jump_is_not_believed_either(machine: Machine) -> None:
    machine.clock()
    machine.wall, machine.away = machine.wall + 3600, True
    assert machine.clock() == pytest.approx(NOW)
    machine.passes(5)
    assert machine.clock() == pytest.approx(NOW + 5)


def test_after_a_pause_of_the_machine_redis_says_how_long_it_was(machine: Machine) -> None:
    machine.clock()
    machine.wall, machine.redis = machine.wall + 900, machine.redis + 900
    assert machine.clock() == pytest.approx(NOW + 900)


def test_a_clock_that_drifts_is_followed(machine: Machine) -> None:
    for _ in range(10):
        machine.clock()
        machine.wall += 0.5
    assert machine.clock() == pytest.approx(NOW + 5)


def test_a_process_that_begins_on_a_machine_with_a_wrong_clock_asks_redis(machine: Machine) -> None:
    machine.wall += 3600
    assert machine.clock() == pytest.approx(NOW)


def test_redis_is_asked_once_a_second_at_most(machine: Machine) -> None:
    machine.clock()
    machine.wall += 3600
    for _ in range(100):
        machine.passes(0.05)
        machine.clock()
    assert 5 <= machine.asked <= 7


# The worker's end


def store(redis_time: float) -> Any:
    return SimpleNamespace(workers=SimpleNamespace(server_time=lambda: redis_time))


@pytest.mark.parametrize("skew", [1.5, -1.5, 3600.0])
def test_a_clock_that_is_off_is_refused(skew: float) -> None:
    with pytest.raises(ConfigurationError, match=r"off Redis'.*set the clock"):
        refuse_wrong_clock(store(NOW), lambda: NOW + skew)


def test_a_redis_that_answers_late_makes_no_clock_wrong() -> None:
    times = iter([NOW, NOW + 30])
    refuse_wrong_clock(store(NOW + 29), lambda: next(times))
