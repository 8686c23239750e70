"""What a child of the pool says is read to its end, also by a worker that connects to its broker anew meanwhile."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.asynpool import ResultHandler

from celery_app.overrides import whole_results
from celery_app.overrides.whole_results import read_once, read_whole


class Child:
    """The end of a pipe at which a child writes, and what the main process has read of it."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        self.said: list[Any] = []
        self.handler = SimpleNamespace(fileno_to_outq={self.fd: self}, handle_event=None)

    def writes(self, data: bytes) -> None:
        os.write(self._write, data)

    def dies(self) -> None:
        os.close(self._write)

    def readable(self, read: Callable[..., Iterator[None]]) -> Iterator[None]:
        """The event loop reads what is there. What it answers goes on with it, unless the loop drops it."""
        reading = read(self.handler, lambda *_: None, self.fd, self.said.append)
        next(reading, None)
        return reading


def message(value: Any) -> bytes:
    body = pickle.dumps(value)
    return struct.pack(">i", len(body)) + body


@pytest.mark.parametrize("cut", [2, 4, 9])
def test_a_message_that_was_read_in_part_before_the_loop_was_reset_is_read_on(cut: int) -> None:
    child, text = Child(), message("the first, and a long one")
    child.writes(text[:cut])
    child.readable(read_whole)  # dropped, as the reset does
    child.writes(text[cut:] + message("the second"))
    child.readable(read_whole)
    child.readable(read_whole)
    assert child.said == ["the first, and a long one", "the second"]


def test_celerys_own_loses_it() -> None:
    """If this fails, Celery has mended it, and the one of ours can go."""
    child, text = Child(), message("the first, and a long one")
    child.writes(text[:9])
    child.readable(read_once)
    child.writes(text[9:])
    with suppress(Exception):
        child.readable(read_once)
    assert child.said == []


def test_a_message_that_comes_in_pieces_without_a_reset() -> None:
    child, text = Child(), message("one")
    child.writes(text[:3])
    reading = child.readable(read_whole)
    child.writes(text[3:])
    assert next(reading, "over") == "over"
    assert child.said == ["one"]


def test_a_child_that_dies_in_a_message_leaves_nothing_to_the_next_one() -> None:
    child = Child()
    child.writes(message("one")[:6])
    child.readable(read_whole)
    child.dies()
    with pytest.raises(OSError, match="End of file during message"):
        child.readable(read_whole)
    assert not vars(child.handler)["runpod_begun"]


def test_the_worker_has_it() -> None:
    whole_results.install()
    assert ResultHandler._recv_message is read_whole
