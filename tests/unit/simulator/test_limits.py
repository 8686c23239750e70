"""RunPod's rate limits."""

from __future__ import annotations

import pytest

from celery_runpod._simulator.limits import LIMITS, Rates


@pytest.mark.parametrize("operation", [name for name, (_, at_once) in LIMITS.items() if at_once])
def test_so_many_in_the_window_and_more_when_it_has_passed(operation: str) -> None:
    rates = Rates()
    most = LIMITS[operation][0]
    for _ in range(most):
        assert rates.enter("sdxl", operation, 0.0)
        rates.leave("sdxl", operation)
    assert not rates.enter("sdxl", operation, 9.9)
    assert rates.enter("other", operation, 9.9)
    assert rates.enter("sdxl", operation, 10.0)


def test_so_many_at_once() -> None:
    rates = Rates()
    assert all(rates.enter("sdxl", "cancel", 0.0) for _ in range(20))
    assert not rates.enter("sdxl", "cancel", 0.0)
    rates.leave("sdxl", "cancel")
    assert rates.enter("sdxl", "cancel", 0.0)


def test_operations_without_a_limit() -> None:
    rates = Rates()
    assert all(rates.enter("sdxl", "health", 0.0) for _ in range(5000))


def test_purge_queue_twice_in_ten_seconds() -> None:
    rates = Rates()
    assert [rates.enter("sdxl", "purge-queue", at) for at in (0.0, 1.0, 2.0, 10.0, 10.5)] == [
        True, True, False, True, False,
    ]  # fmt: skip
