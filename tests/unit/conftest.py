"""For every unit test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import _state
from celery.backends import cache


@pytest.fixture(autouse=True)
def no_results_of_other_tests() -> None:
    """Celery's memory backend keeps those of all apps of a process."""
    cache._DUMMY_CLIENT_CACHE.clear()


@pytest.fixture(autouse=True)
def the_current_app_of_no_other_test() -> Iterator[None]:
    """A worker's app makes itself the current one, and Django's setting RUNPOD stands for nothing in a worker."""
    before = _state._tls.current_app
    yield
    _state._tls.current_app = before
