"""What a handler's error says, in whatever shape it comes. Pure.

RunPod's `error` is what the handler returned under `error`, any JSON value. For an exception in the handler, RunPod's SDK
writes it, in one of two shapes (read in its SDK, `runpod/serverless/modules/rp_job.py`, 1.12):

    a plain handler       a JSON text: {"error_type": "<class 'ValueError'>", "error_message", "error_traceback", ...}
    a generator handler   a plain text: "handler: MESSAGE \\ntraceback: Traceback (most recent call last): ..."
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from celery_runpod.api._depth import loads

MAX_MESSAGE = 2000
"""Characters of a message; `JobFailed.error` holds the whole text."""

_CLASS = re.compile(r"<class '(?:.*\.)?(?P<name>[^'.]+)'>")
# How a traceback ends: `package.module.SomeError: text` (of several lines, perhaps), or `SomeError` alone.
_EXCEPTION = re.compile(r"^(?:[\w<>]+\.)*(?P<name>[A-Za-z_]\w*)(?::|$)")


class HandlerError(NamedTuple):
    """A handler's error, taken apart."""

    message: str | None
    error_type: str | None = None
    traceback: str | None = None
    worker_id: str | None = None


def read_error(error: Any) -> HandlerError:
    """Message, type and traceback of RunPod's `error`, whatever it is.

    >>> read_error({"error_message": "no face in the image", "error_type": "<class '__main__.NoFace'>"})
    HandlerError(message='no face in the image', error_type='NoFace', traceback=None, worker_id=None)
    >>> read_error(["out of memory", 3])
    HandlerError(message='["out of memory", 3]', error_type=None, traceback=None, worker_id=None)
    """
    if isinstance(error, str):
        if error.lstrip().startswith("{"):
            try:
                data = loads(error)
            except ValueError:
                data = None
            if isinstance(data, Mapping):
                return _of_mapping(data)
        # Not a regular expression: it could take minutes on a long text that somebody chose.
        message, generator, trace = error.strip().partition("\ntraceback:")
        if generator and message.startswith("handler: "):
            message, trace = message.removeprefix("handler: ").rstrip(), trace.strip()
            ending = _ending(trace)
            kind = _EXCEPTION.match(ending)
            return HandlerError(_cut(message or ending), kind["name"] if kind else None, trace)
    if isinstance(error, Mapping):
        return _of_mapping(error)
    return HandlerError(_text(error))


def _of_mapping(error: Mapping[str, Any]) -> HandlerError:
    kind = _text(error.get("error_type") or error.get("type"))
    named = _CLASS.fullmatch(kind.strip()) if kind else None
    kind = named["name"] if named else kind
    message = next((error[name] for name in ("error_message", "message", "error", "detail") if error.get(name)), None)
    trace = error.get("error_traceback") or error.get("traceback")
    worker_id = error.get("worker_id")
    # An exception without a text (`raise ValueError`) still has its type; a dict of another shape is shown as JSON.
    return HandlerError(
        _text(message) or kind or _text(error or None),
        kind,
        trace if isinstance(trace, str) else _text(trace),
        worker_id if isinstance(worker_id, str) and worker_id not in ("", "unknown") else None,
    )


def _ending(traceback: str) -> str:
    """The line that names the exception: the first line without indentation after the last frame."""
    _, _, after = traceback.rpartition('\n  File "')
    return next((line for line in after.splitlines()[1:] if not line.startswith(" ")), "")


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return _cut(value) if value and value.strip() else None
    try:
        return _cut(json.dumps(value, default=repr))
    except ValueError:
        return f"a {type(value).__name__} that cannot be shown"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 4]} ..."
