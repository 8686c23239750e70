"""How many requests a key may send, and the RateLimit headers. Pure: the time is an argument.

RunPod publishes the form and not the numbers (docs.runpod.io/api-reference-v2: the example says 60 a minute, 3,000 an
hour, 50,000 a day); here they are a hundred times the example, so that a test that polls is not held up by them.
Not here: the limits of the job routes (``celery_runpod/_simulator/request_rules.py``).
"""

from __future__ import annotations

import math

WINDOWS = {"minute": (6000, 60), "hour": (300_000, 3600), "day": (5_000_000, 86_400)}
"""Window -> requests, length in seconds."""
POLICY = ", ".join(f'"{name}";q={most};w={length_s}' for name, (most, length_s) in WINDOWS.items())


class Quotas:
    """The requests of each window that is under way."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[int, int]] = {}

    def take(self, now: float) -> str | None:
        """Count a request. The name of the window that is used up; then it does not count."""
        for name, (most, _) in WINDOWS.items():
            if self._count(name, now) >= most:
                return name
        for name, (_, length_s) in WINDOWS.items():
            self._used[name] = (int(now // length_s), self._count(name, now) + 1)
        return None

    def left(self, now: float) -> str:
        """The header `RateLimit`."""
        parts = [(name, most - self._count(name, now), self.resets_s(name, now)) for name, (most, _) in WINDOWS.items()]
        return ", ".join(f'"{name}";r={left};t={seconds}' for name, left, seconds in parts)

    def resets_s(self, name: str, now: float) -> int:
        """Whole seconds until a window begins anew."""
        length_s = WINDOWS[name][1]
        return math.ceil(length_s - now % length_s)

    def reset(self) -> None:
        self._used.clear()

    def _count(self, name: str, now: float) -> int:
        window, used = self._used.get(name, (-1, 0))
        return used if window == int(now // WINDOWS[name][1]) else 0
