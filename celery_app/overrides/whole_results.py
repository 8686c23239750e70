"""The pool's results, read to their end although the worker connects to its broker anew in between.

Celery's main process reads what a child says in pieces, as they come. A lost connection resets the event loop, and with
it a message that was read in part: the rest of it is then taken for the next one. Celery 5.7 ends at that with an
UnpicklingError, and waits for ever for its children. Seen with a Redis that was read-only for seconds, in which a worker
connects five times a second. Here the reading goes on where it was.

Not here: messages of the broker (``loss_tolerant_consumer.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from celery.concurrency.asynpool import ResultHandler

Read = Callable[..., Iterator[None]]
read_once: Read = ResultHandler._recv_message


def read_whole(handler: Any, add_reader: Any, fd: int, callback: Any) -> Iterator[None]:
    """Celery's `_recv_message`, which goes on with a message of the same child that was begun before."""
    begun: WeakKeyDictionary[Any, Iterator[None]] = vars(handler).setdefault("runpod_begun", WeakKeyDictionary())
    child = handler.fileno_to_outq[fd]
    if child not in begun:
        begun[child] = read_once(handler, add_reader, fd, callback)
    try:
        # Not `yield from`: where the loop drops this generator, that one is kept.
        for _ in begun[child]:
            yield
    except GeneratorExit:
        raise
    except BaseException:
        del begun[child]
        raise
    del begun[child]


def install() -> None:
    """For every pool of this process."""
    ResultHandler._recv_message = read_whole
