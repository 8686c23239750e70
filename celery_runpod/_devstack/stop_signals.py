"""Ctrl-C, SIGTERM and SIGHUP as an exception that is raised at safe points only.

Safe is between two looks at a server, and not between starting a process and noting it down: so every process that was
started can be stopped.
"""

from __future__ import annotations

import os
import select
import signal
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The user, or the system, asked this process to end. `status` is the exit status that says so."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.status = 128 + signum


class StopSignals:
    """Remembers the first signal that asks to end; `check` and `wait` raise it."""

    def __init__(self) -> None:
        self._signum = 0

    def __enter__(self) -> Self:
        # A pipe, and not an Event: two signals at once would wait for each other within `Event.set()`.
        self._reads, self._writes = os.pipe()
        self._before = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        os.close(self._reads)
        os.close(self._writes)

    def _note(self, signum: int, frame: Any) -> None:
        if not self._signum:
            self._signum = signum
            os.write(self._writes, b".")

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self._signum:
            raise Interrupted(self._signum)

    def wait(self, seconds: float) -> None:
        """Wait, or raise `Interrupted` as soon as a signal comes."""
        select.select([self._reads], [], [], seconds)
        self.check()
