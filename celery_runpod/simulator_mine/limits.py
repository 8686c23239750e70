"""RunPod's rate limits: requests in 10 s, and at once, for each endpoint and operation
(docs.runpod.io/serverless/endpoints/operation-reference). Pure.

Next: ``server.py``.
"""

from __future__ import annotations

from collections import defaultdict, deque

WINDOW_S = 10.0
LIMITS = {
    "run": (1000, 200),
    "runsync": (2000, 400),
    "status": (2000, 400),
    "status-sync": (2000, 400),
    "stream": (2000, 400),
    "cancel": (100, 20),
    "purge-queue": (2, 1_000_000),
    "requests": (10, 2),
}


class Limits:
    """Counts requests; `enter` says whether one may come in, `leave` that it is over."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._recent: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._inside: dict[tuple[str, str], int] = defaultdict(int)

    def enter(self, endpoint: str, operation: str, now: float) -> bool:
        limit = LIMITS.get(operation)
        if limit is None or not self.enabled:
            return True
        key = (endpoint, operation)
        recent = self._recent[key]
        while recent and recent[0] <= now - WINDOW_S:
            recent.popleft()
        if len(recent) >= limit[0] or self._inside[key] >= limit[1]:
            return False
        recent.append(now)
        self._inside[key] += 1
        return True

    def leave(self, endpoint: str, operation: str) -> None:
        if operation in LIMITS and self.enabled:
            self._inside[(endpoint, operation)] -= 1
