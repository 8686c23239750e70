"""A JobUpdate for a browser: as JSON, and as a server-sent event.

A browser gets how a job stands, and of an error its type and, if the job is a RunPod job, its message. It gets no output,
no traceback and no id of RunPod's: who may see more is for the application's own views to say.

An event has a name, so that events of another kind can be added: a browser hears only those that it listens to. Its id is
for nobody to take apart, but that of a last one ends with `ENDED`.

Not here: who may see a job (the views), and showing text safely (`celery_runpod.js` writes it as text alone).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from celery_runpod._live.update import JobUpdate
from celery_runpod.errors import JobError

MOST_PROGRESS = 65_536
"""A progress whose JSON is longer is left out: it would go to every open page with each change."""
MOST_MESSAGE = 1_000
ENDED = ".end"
"""The ids of last events end with it: a browser that comes again with one gets nothing more."""
HEARTBEAT = b": \n\n"
RETRY = b"retry: 3000\n\n"
"""How long, in milliseconds, a browser waits before it connects again."""


def to_json(update: JobUpdate) -> dict[str, Any]:
    """What the status view answers, and what an event carries."""
    return {
        "task": update.task_id,
        "state": update.state,
        "reason": update.reason,
        "progress": _progress(update.progress),
        "seconds": None if update.seconds is None else round(update.seconds, 1),
        "ended": update.ended,
        "error": _error(update.error),
        "step": None if update.step is None else to_json(update.step),
    }


def event_id(update: JobUpdate) -> str:
    """The same for two updates between which nothing has changed but the time."""
    timeless = json.dumps(_without_seconds(to_json(update)), sort_keys=True)
    digest = hashlib.sha256(timeless.encode()).hexdigest()[:16]
    return digest + (ENDED if update.ended else "")


def to_event(update: JobUpdate) -> bytes:
    """One event `update`. JSON escapes line breaks, so the data are one line."""
    return f"id: {event_id(update)}\nevent: update\ndata: {json.dumps(to_json(update))}\n\n".encode()


def _without_seconds(shown: Mapping[str, Any]) -> dict[str, Any]:
    step = shown["step"]
    return {**shown, "seconds": None, "step": None if step is None else _without_seconds(step)}


def _progress(value: Any) -> Any:
    sound = _sound(value)
    return sound if len(json.dumps(sound)) <= MOST_PROGRESS else None


def _sound(value: Any) -> Any:
    """What a browser can parse: Python reads and writes NaN and Infinity, which are no JSON; what is no JSON at all, as a
    date in a result of Celery's, becomes a text."""
    if isinstance(value, Mapping):
        return {str(name): _sound(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_sound(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _error(error: BaseException | None) -> dict[str, str | None] | None:
    if error is None:
        return None
    # The text of any other error may quote what is nobody's business: a path, a query, an address.
    message = error.message[:MOST_MESSAGE] if isinstance(error, JobError) else None
    return {"type": type(error).__name__, "message": message}
