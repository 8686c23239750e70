"""Ctrl-C and its like end a program that waits, however often they come."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from celery_runpod._devstack.stop_signals import SIGNALS, Interrupted, StopSignals

WAITS = """
import os
from celery_runpod._devstack.stop_signals import Interrupted, StopSignals

with StopSignals() as signals:
    print("ready", flush=True)
    try:
        signals.wait(3600)
    except Interrupted as interrupted:
        os._exit(interrupted.status)
"""


def test_signals_that_come_together_end_it() -> None:
    for _ in range(10):
        waiting = subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE)
        assert waiting.stdout is not None and waiting.stdout.readline() == b"ready\n"
        for number in range(100):
            if waiting.poll() is None:
                waiting.send_signal(SIGNALS[number % 3])
        try:
            assert waiting.wait(30) in {128 + number for number in SIGNALS}
        finally:
            waiting.kill()
            waiting.stdout.close()


def test_the_first_one_counts_and_is_raised_at_each_check() -> None:
    with StopSignals() as signals:
        signals.wait(0.0)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        for look in (signals.check, lambda: signals.wait(60.0)):
            with pytest.raises(Interrupted) as raised:
                look()
            assert raised.value.status == 128 + signal.SIGTERM
