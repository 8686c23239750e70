"""For every unit test."""

from __future__ import annotations

import pytest
from celery.backends import cache


@pytest.fixture(autouse=True)
def no_results_of_other_tests() -> None:
    """Celery's memory backend keeps those of all apps of a process."""
    cache._DUMMY_CLIENT_CACHE.clear()
