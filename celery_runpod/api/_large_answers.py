"""Large answers take turns, so that those that come together fit into the memory of a process.

An answer is in memory several times: as it came, parsed, and as what is made of it. A hundred of 20 MB that were read
side by side took 4 GB, and a worker that is killed for it asks for the same again.

Turns are for threads that work on one of many answers and say so (`one_answer`): a worker's checks.

Not here: the reading (``_transport.py``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LARGE_BYTES = 1_000_000
AT_ONCE = 4
"""How many answers of more than `LARGE_BYTES` are in work at once in a process."""

_thread = threading.local()
"""`turn`, only within `one_answer`: what the thread gives back at the end, or None."""
# One for each process id, without a lock: a fork may happen while another thread holds the lock.
_turns: dict[int, threading.Semaphore] = {}


class NoTurn(Exception):
    """Other large answers are in work. Nothing is wrong with this one: it can be asked for again."""


@contextmanager
def one_answer() -> Iterator[None]:
    """The work on one answer: a turn that this thread takes within this context is given back at its end."""
    _thread.turn = None
    try:
        yield
    finally:
        if _thread.turn is not None:
            _thread.turn.release()
        del _thread.turn


def turns() -> threading.Semaphore:
    """Those of this process."""
    pid = os.getpid()
    return _turns.get(pid) or _turns.setdefault(pid, threading.BoundedSemaphore(AT_ONCE))


def take_turn(timeout_s: float) -> None:
    """Wait for a turn. Without effect outside of `one_answer`, and for a thread that has one.

    Raises:
        NoTurn: none became free in this time.
    """
    if not hasattr(_thread, "turn") or _thread.turn is not None:
        return
    free = turns()
    if not free.acquire(timeout=timeout_s):
        raise NoTurn
    _thread.turn = free
