"""Commands as a user starts them, with all that they start in turn: each process inherits a sign by which it is found."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil

from celery_runpod._devstack.stack import cli

LONGEST_S = 240
SIGN = "DEMO_TEST_SIGN"


def alive(value: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(SIGN) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def start(sign: str, folder: Path, *command: str) -> subprocess.Popen[str]:
    # Somebody's Redis and namespace around it: the command must use neither.
    env = {
        **os.environ,
        SIGN: sign,
        "PYTHONUNBUFFERED": "1",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "RUNPOD_NAMESPACE": "theirs",
    }
    return subprocess.Popen(
        cli(*command), cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def lines_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """What it has printed, up to the first line with these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"it ended without {words!r}: {''.join(lines)}")
