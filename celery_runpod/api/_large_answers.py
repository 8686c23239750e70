"""Large answers take turns, so that those that come together fit into the memory of a process.

An answer is in memory several times: as it came, parsed, and as what is made of it. A hundred of 20 MB that were read
side by side took 4 GB, and a worker that is killed for it asks for the same again.

Not here: the reading (``_transport.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

LARGE_BYTES, AT_ONCE = 1_000_000, 4
"""So many answers of more bytes than this are worked on at once in a process."""

_thread = threading.local()


class _Work:
    """What a thread does with one answer; `turn` is what it gives back at the end, if the answer is large."""

    turn: threading.Semaphore | None = None


@contextmanager
def one_answer() -> Iterator[None]:
    """The work on one answer: a turn that this thread takes within this context is given back at its end. Within another
    such context it has no effect."""
    if getattr(_thread, "work", None) is not None:
        yield
        return
    work = _thread.work = _Work()
    try:
        yield
    finally:
        _thread.work = None
        if work.turn is not None:
            work.turn.release()


def take_turn(turns: threading.Semaphore, timeout_s: float) -> bool:
    """Wait for a turn, within `one_answer`; whether this thread has one now."""
    work: _Work = _thread.work
    if work.turn is None and turns.acquire(timeout=timeout_s):
        work.turn = turns
    return work.turn is not None
