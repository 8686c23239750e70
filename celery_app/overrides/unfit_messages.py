"""Refuses messages with which no task can begin: a header of another type than Celery reads, or arguments that do not
fit.

Without this check, each would be an unexpected error of its task, retried ten times, or an error in the pool, whose timer
reads `timelimit`. A message that is refused here ends its task or is put aside, before the task begins (``poison.py``).

Not here: the arguments of `runpod.run`, which the task checks itself (`tasks/call_message.py`), and those of the tasks
of `RUNPOD_IMPORTS`, which are the user's.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import typing
from collections.abc import Callable
from typing import Any

from celery import Celery
from pydantic import TypeAdapter, ValidationError

import tasks
from celery_runpod._protocol import RUN
from celery_runpod.api._fields import can_be_encoded

MOST_TEXT = 200


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _is_time_limit(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(one is None or (isinstance(one, int | float) and math.isfinite(one) and one >= 0) for one in value)


TEXT = (_is_text, "a text")
COUNT = (_is_count, "a whole number")
HEADERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("eta", "expires", "root_id", "parent_id", "group", "shadow"), TEXT),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), COUNT),
    "timelimit": (_is_time_limit, "a list of two numbers of seconds"),
}
"""The headers that Celery reads (its protocol 2); null and a missing header are the same."""


def misfit(app: Celery, message: Any) -> str | None:
    """Why no task can begin with a message; None if one can. The text holds no value of the message."""
    headers = message.headers
    if not isinstance(headers, dict) or "task" not in headers:
        return None
    for name, (fits, allowed) in HEADERS.items():
        if headers.get(name) is not None and not fits(headers[name]):
            return f"the header {name!r} is a {type(headers[name]).__name__}; allowed: {allowed}"
    body = _body(message)
    if not isinstance(body, list) or len(body) != 3:
        return None  # Celery refuses it itself
    args, kwargs, embed = body
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(embed, dict | None):
        # Celery drops such a message, and its task never ends.
        kinds = ", ".join(type(one).__name__ for one in body)
        return f"the body holds a {kinds}; allowed: a list, a dict, and a dict or null"
    name = headers["task"]
    if name == RUN or name not in tasks.NAMES or name not in app.tasks:
        return None
    problem: str | None = "they hold a lone surrogate, which is not text"
    if can_be_encoded(json.dumps(body[:2], ensure_ascii=False, default=repr)):
        problem = unbound(app.tasks[name].run, args, kwargs)
    return problem and f"{name} does not take these arguments: {problem}"


def unbound(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> str | None:
    """Why a function cannot be called with these arguments; None if it can."""
    signature, adapters = _checks(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        return _plain(str(error))
    for name, adapter in adapters.items():
        if name in bound.arguments:
            try:
                adapter.validate_python(bound.arguments[name], strict=True)
            except ValidationError as error:
                return f"{name}: {_plain(error.errors(include_url=False, include_input=False)[0]['msg'])}"
    return None


@functools.cache
def _checks(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, TypeAdapter[Any]]]:
    """A function's signature, and a check for the type of each of its named parameters; made once for each function."""
    signature, hints = inspect.signature(function), typing.get_type_hints(inspect.unwrap(function))
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [one.name for one in signature.parameters.values() if one.kind not in several]
    return signature, {name: TypeAdapter(hints[name]) for name in named if name in hints}


def _body(message: Any) -> Any:
    """The decoded body, which kombu keeps for Celery. None if it cannot be decoded: Celery reports that itself."""
    try:
        return message.payload
    except Exception:
        return None


def _plain(text: str) -> str:
    """The text in ASCII and shortened: it may hold the name of an unknown argument, which is any text."""
    return ascii(text)[1:-1][:MOST_TEXT]
