"""Waiting, in one place: tests wait for what they expect, and fail with the last thing seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.1
"""Between two looks. A look asks Redis or the simulator, and takes from them what the workers need."""


def eventually(seen: Callable[[], T], expected: T, within_s: float = 20.0) -> None:
    """`within_s` bounds hanging; it is never a claim about speed."""
    deadline = time.monotonic() + within_s
    pause_s = FIRST_PAUSE_S
    while (last := seen()) != expected:
        assert time.monotonic() < deadline, f"after {within_s:g} s: {last!r}, not {expected!r}"
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, LONGEST_PAUSE_S)
