"""Waiting, in one place: tests wait for what they expect, and fail with the last thing seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(seen: Callable[[], T], expected: T, within_s: float = 20.0) -> None:
    """`within_s` bounds hanging; it is never a claim about speed."""
    deadline = time.monotonic() + within_s
    while (last := seen()) != expected:
        assert time.monotonic() < deadline, f"after {within_s:g} s: {last!r}, not {expected!r}"
        time.sleep(0.02)
