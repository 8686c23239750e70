"""Kills the worker processes of a simulator that has died, however it died (also by kill -9).

A process of its own: it reads `+GROUP` and `-GROUP` lines, and when its input ends, kills every process group it still
knows. Standard library alone, started by path, so that it starts fast. Not here: the ordinary end (``workers.py``).
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    main()
