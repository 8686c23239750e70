"""A JobUpdate for a browser: as JSON, and as a server-sent event.

A browser gets how a job stands, and of an error its type and, if the job is a RunPod job, its message. It gets no output,
no traceback and no id of RunPod's. An application that wants to show more does so in views of its own. If the job
streams, the browser gets the chunks.

An event has a name, so that events of another kind can be added: a browser hears only those that it listens to. Its id is
what `Position` makes of it; that of a last one ends with `ENDED`.

Not here: who may see a job (the views), and showing text safely (`celery_runpod.js` writes it as text alone).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from celery_runpod._live.chunks import Chunk, is_chunk_id
from celery_runpod._live.job_update import JobUpdate
from celery_runpod._store.streams import START
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


class Position:
    """What one browser has: the last update, and the last chunk if the job streams. A browser that lost its connection
    names both, as the id of the last event that it got."""

    def __init__(self, last_event_id: str | None) -> None:
        chunk, _, update = (last_event_id or "").rpartition("_")
        self._chunk = chunk if is_chunk_id(chunk) else ""
        self._update = update

    @property
    def after(self) -> str:
        """The id of the last chunk, as a reader takes it."""
        return self._chunk or START

    def event(self, news: JobUpdate | Chunk | None) -> bytes:
        """What is sent: an event `update` or `chunk`. For None it is a comment, so that nobody closes a quiet connection;
        and for an update that the browser has: what changes in it may be left out each time, as a progress that is too
        large. JSON escapes line breaks, so the data are one line."""
        if news is None:
            return HEARTBEAT
        if isinstance(news, Chunk):
            self._chunk = news.id
            return self._named("chunk", chunk_json(news))
        if event_id(news) == self._update:
            return HEARTBEAT
        self._update = event_id(news)
        return self._named("update", to_json(news))

    def _named(self, name: str, data: Mapping[str, Any]) -> bytes:
        of_both = f"{self._chunk}_{self._update}" if self._chunk else self._update
        return f"id: {of_both}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def chunk_json(chunk: Chunk) -> dict[str, Any]:
    """What an event `chunk` carries, and the status view beside the update."""
    return {"id": chunk.id, "output": _sound(chunk.output), "attempt": chunk.attempt, "event": chunk.event}


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
