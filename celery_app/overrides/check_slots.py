"""Checks leave one process of a worker's pool to the other tasks.

A check waits for RunPod, for as long as its slowest call takes; accepting a call and delivering a result take
milliseconds. Without a limit a worker of two processes would accept nothing while it waits twice. A check that has to
wait here meets more jobs when it begins, and does them side by side. So a second one of its endpoint is dropped while it
waits: Redis delivers a message again that waits for longer than the visibility timeout, and the checks of 500 endpoints
stood behind thousands of copies. While no other task comes, the last process takes a check too, if it will be short.

An endpoint for which RunPod is slow must not hold up the others: its checks take most of the time. Together with those of
other slow endpoints they have two thirds of the processes that checks have, and never the last one.

With one process tasks and checks share its time: after a check the other tasks have it for as long as that check took,
unless none comes. By turns of one message each, a check would find one job (docs/decisions/0023).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from celery_runpod._protocol import CHECK_STATUS

IDLE_S = 0.02
"""If no other task has come for so long, none waits: their messages are fetched within milliseconds."""
SHORT_S, SLOW_S = 1.0, 3.0
"""A check that takes longer follows a stream, or waits for a slow RunPod. The next one of its endpoint will too."""


class CheckSlots:
    """The checks of one worker. `begin` hands a request to the pool, `processes` says how many it has; `held` and `freed`
    are called for each check that has to wait: a message that waits must not keep others from being fetched. `drop`
    acknowledges a request that is not needed. `later` calls a function after some seconds, `clock` counts seconds."""

    def __init__(
        self,
        begin: Callable[[Any], None],
        processes: Callable[[], int],
        held: Callable[[], None],
        freed: Callable[[], None],
        drop: Callable[[Any], None],
        later: Callable[[float, Callable[[], None]], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begin, self._processes, self._held, self._freed = begin, processes, held, freed
        self._drop, self._later, self._clock = drop, later, clock
        self._lock = threading.Lock()
        self._running: dict[int, tuple[float, str]] = {}
        self._waiting: deque[tuple[Any, str]] = deque()
        self._turn_ends = self._other_came = -IDLE_S
        self._looks_again = False
        self._took: dict[str, float] = {}
        """By endpoint, where it was not short."""

    def take(self, request: Any) -> None:
        """Hand a request to the pool now, or, if it is a check that has to wait, when it may begin."""
        if request.type != CHECK_STATUS:
            self._other_came = self._clock()
            self._begin(request)
            return
        # Its endpoint: the arguments, as they are.
        endpoint = repr((request.args, request.kwargs))
        with self._lock:
            needless = any(one == endpoint for _, one in self._waiting)
            waits = bool(self._waiting) or not self._may_begin()(endpoint)
            if not waits:
                self._running[id(request)] = self._clock(), endpoint
            elif not needless:
                self._waiting.append((request, endpoint))
        if needless:
            self._drop(request)
        elif waits:
            self._held()
            self._next()
        else:
            self._start(request)

    def _may_begin(self) -> Callable[[str], bool]:
        """A function that says whether a check of an endpoint may begin now."""
        last, now, running = self._processes() - 1, self._clock(), self._running.values()
        takes = dict(self._took)
        for began, endpoint in running:
            takes[endpoint] = max(now - began, takes.get(endpoint, 0.0))
        idle = now >= self._other_came + IDLE_S
        if not last:
            room_s = math.inf if not running and (idle or now >= self._turn_ends) else 0.0
        elif len(running) < last:
            slow = sum(takes[endpoint] >= SLOW_S for _, endpoint in running)
            room_s = math.inf if slow < max(1, last - max(1, last // 3)) else SLOW_S
        else:
            room_s = SHORT_S if len(running) == last and idle else 0.0
        return lambda endpoint: takes.get(endpoint, 0.0) < room_s

    def _next(self) -> None:
        """Let the checks begin that have waited and may begin now. Look again soon if one waits for the other tasks."""
        while True:
            with self._lock:
                may_begin = self._may_begin()
                place = next((place for place, (_, one) in enumerate(self._waiting) if may_begin(one)), None)
                if place is None:
                    break
                following, endpoint = self._waiting[place]
                del self._waiting[place]
                self._running[id(following)] = self._clock(), endpoint
            self._freed()
            self._start(following)
        with self._lock:
            last = self._processes() - 1
            for_others = not last or any(endpoint not in self._took for _, endpoint in self._waiting)
            look_again = bool(self._waiting) and for_others and len(self._running) == last and not self._looks_again
            self._looks_again |= look_again
        if look_again:
            self._later(IDLE_S, self._looked)

    def _looked(self) -> None:
        self._looks_again = False
        self._next()

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
            if (ran := self._running.pop(id(request), None)) is None:
                return
            now, (began, endpoint) = self._clock(), ran
            self._turn_ends = now + (now - began)
            self._took.pop(endpoint, None)
            if now - began >= SHORT_S:
                self._took[endpoint] = now - began
        self._next()

    def forget(self) -> None:
        """The connection is lost: waiting messages come again over the next one. Celery's pool silently drops running
        tasks that no process has begun (`flush`), so nothing counts as running any more."""
        with self._lock:
            self._waiting.clear()
            self._running.clear()
