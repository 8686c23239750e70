"""Ends process groups when the process that started them has died, however it died (also by kill -9).

Two sides in one file. `Guard` belongs to the process that starts others: the simulator for its handlers' workers, a
stack for its servers. The file run as a program is the watcher: it reads `+GROUP` and `-GROUP` lines from a pipe, and
when the pipe ends, it kills every process group that it still knows. The pipe ends with the process that holds its
other end. Standard library alone, because the watcher is started by path and has to start fast.

Not here: the ordinary end of a process (`Stack.stop`, and ``celery_runpod/_simulator/worker_fleet.py``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable

STDERR = 2


class Guard:
    """The pipe to a watcher, which is started with the first group."""

    def __init__(self) -> None:
        self._watcher: subprocess.Popen[bytes] | None = None

    def watch(self) -> Callable[[], None]:
        """What a child in a process group of its own calls before it becomes another program (`preexec_fn`): it names the
        group, which is then killed if this process dies before `release`. If the parent named it later, the group would
        outlive a parent that is killed in between."""
        if self._watcher is None:
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=STDERR,
                stderr=STDERR,
                start_new_session=True,
            )
        assert self._watcher.stdin is not None
        pipe = self._watcher.stdin.fileno()

        def name_group() -> None:
            os.write(pipe, f"+{os.getpid()}\n".encode())

        return name_group

    def release(self, group: int) -> None:
        """The group has ended: its number may become another's."""
        if self._watcher is not None and self._watcher.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._watcher.stdin.fileno(), f"-{group}\n".encode())

    def close(self) -> None:
        """End the watcher; a group that is still watched is killed. Blocks for some milliseconds."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                watcher.stdin.close()
            watcher.wait()


def kill_group(group: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal to every process of a group; nothing where there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def watch_until_the_pipe_ends() -> None:
    """What the watcher does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        if line.startswith("+"):
            groups.add(int(line[1:]))
        else:
            groups.discard(int(line[1:]))
    for group in groups:
        kill_group(group)


if __name__ == "__main__":
    watch_until_the_pipe_ends()
