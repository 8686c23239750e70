"""Imported into a RunPod worker by `RUNPOD_IMPORTS`: places inside Celery itself where a process may die.

As `tasks/crash_points.py` does for our own code: the process that reaches the place named in the file of `DYING_AT`
removes the file and is killed with SIGKILL.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery.backends.redis import RedisBackend
from celery.canvas import Signature

CHORD_CLAIMED = "the chord is claimed, its body is not sent"
CHORD_SENT = "the chord's body is sent, the chord is kept"
DISPATCHED = "links and chain are sent, the result is not stored"
STORED = "the result is stored, the chord is not told"

_delay = Signature.delay
_mark_as_done = RedisBackend.mark_as_done
_on_chord_part_return = RedisBackend.on_chord_part_return


def _reach(place: str) -> None:
    file = Path(os.environ["DYING_AT"])
    try:
        if file.read_text() == place:
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    except FileNotFoundError:
        return


def delay(self: Any, *args: Any, **kwargs: Any) -> Any:
    if self.task != "tests.application.collect":
        return _delay(self, *args, **kwargs)
    _reach(CHORD_CLAIMED)
    result = _delay(self, *args, **kwargs)
    _reach(CHORD_SENT)
    return result


def mark_as_done(self: Any, task_id: str, result: Any, request: Any = None, *args: Any, **kwargs: Any) -> Any:
    if request is not None and request.chain:
        _reach(DISPATCHED)
    return _mark_as_done(self, task_id, result, request, *args, **kwargs)


def on_chord_part_return(self: Any, request: Any, state: str, result: Any, **kwargs: Any) -> Any:
    _reach(STORED)
    return _on_chord_part_return(self, request, state, result, **kwargs)


if "DYING_AT" in os.environ:
    Signature.delay = delay
    RedisBackend.mark_as_done = mark_as_done
    RedisBackend.on_chord_part_return = on_chord_part_return
