"""Checks leave one process of a worker's pool to the other tasks.

A check waits for RunPod, for as long as its slowest call takes; accepting a call and delivering a result take
milliseconds. Without a limit a worker of two processes would accept nothing while it waits twice. A check that has to
wait here meets more jobs when it begins, and does them side by side.

With one process there is nothing to leave, and the tasks take turns.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from celery_runpod._protocol import CHECK_STATUS


class CheckSlots:
    """The checks of one worker. `begin` hands a request to the pool, `most` says how many checks may run now; `held`
    and `freed` are called for each check that has to wait: a message that waits must not keep others from being
    fetched."""

    def __init__(
        self,
        begin: Callable[[Any], None],
        most: Callable[[], int],
        held: Callable[[], None],
        freed: Callable[[], None],
    ) -> None:
        self._begin, self._most, self._held, self._freed = begin, most, held, freed
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._waiting: deque[Any] = deque()

    def take(self, request: Any) -> None:
        """Hand a request to the pool now, or, if it is a check and enough of them run, at the end of another check."""
        if request.type != CHECK_STATUS:
            self._begin(request)
            return
        with self._lock:
            waits = len(self._running) >= self._most()
            if waits:
                self._waiting.append(request)
            else:
                self._running.add(id(request))
        if waits:
            self._held()
        else:
            self._start(request)

    def _start(self, request: Any) -> None:
        for name in ("on_success", "on_failure"):
            setattr(request, name, self._then_over(request, getattr(request, name)))
        self._begin(request)

    def _then_over(self, request: Any, then: Callable[..., Any]) -> Callable[..., Any]:
        def ended(*args: Any, **kwargs: Any) -> Any:
            try:
                return then(*args, **kwargs)
            finally:
                self.over(request)

        return ended

    def over(self, request: Any) -> None:
        """A request has ended, or was not taken. Repeating it changes nothing."""
        with self._lock:
            if id(request) not in self._running:
                return
            self._running.discard(id(request))
            following = self._waiting.popleft() if self._waiting else None
            if following is not None:
                self._running.add(id(following))
        if following is not None:
            self._freed()
            self._start(following)

    def forget(self) -> None:
        """The connection is lost: waiting messages come again over the next one. Celery's pool silently drops running
        tasks that no process has begun (`flush`), so nothing counts as running any more."""
        with self._lock:
            self._waiting.clear()
            self._running.clear()
