"""RunPod's limits for each endpoint and operation: requests in 10 seconds, and at once. Pure.

From docs.runpod.io/serverless/endpoints/operation-reference. Not here: the higher limits of endpoints with many running
workers, whose factor RunPod does not document.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 10.0
LIMITS: dict[str, tuple[int, int | None]] = {
    "run": (1000, 200),
    "runsync": (2000, 400),
    "status": (2000, 400),
    "status-sync": (2000, 400),
    "stream": (2000, 400),
    "cancel": (100, 20),
    "purge-queue": (2, None),
    "requests": (10, 2),
}
"""Operation -> requests in the window, requests at once."""


class Rates:
    """The requests of the last seconds, and those that are being answered."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], deque[float]] = {}
        self._open: dict[tuple[str, str], int] = {}

    def enter(self, endpoint: str, operation: str, now: float) -> bool:
        """Whether a request may come in. Where it may, `leave` must follow."""
        if operation not in LIMITS:
            return True
        key = (endpoint, operation)
        in_window, at_once = LIMITS[operation]
        taken = self._taken.setdefault(key, deque())
        while taken and taken[0] <= now - WINDOW_S:
            taken.popleft()
        if len(taken) >= in_window or (at_once is not None and self._open.get(key, 0) >= at_once):
            return False
        taken.append(now)
        self._open[key] = self._open.get(key, 0) + 1
        return True

    def leave(self, endpoint: str, operation: str) -> None:
        """A request that came in has been answered."""
        key = (endpoint, operation)
        if key in self._open:
            self._open[key] -= 1

    def reset(self) -> None:
        """Forget the window; requests that are being answered still count."""
        self._taken.clear()
