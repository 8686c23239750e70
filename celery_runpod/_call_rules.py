"""What a call means, beside the fields of its message: which arguments it may have, what its input is, how its error is
returned as a result. Callers, workers and the fakes of tests share these rules.

Not here: names and fields of the message (``_protocol.py``), the worker's reading of it (`tasks/call_message.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from celery import Celery

from celery_runpod._escaping import described
from celery_runpod._protocol import ARGUMENTS, CALL
from celery_runpod.api._durations import in_seconds
from celery_runpod.errors import InvalidInput, InvalidOption, RunPodError

MOST_ID = 255
"""Characters of a task id."""


def task_id_from(given: Any, *, in_canvas: bool = False) -> str:
    """A call's task id as text; a new one where none is given.

    Raises:
        InvalidOption: neither a text nor a UUID, which is what the primary key of a row often is. `in_canvas` a UUID is
            refused too: the result that Celery has made of it would wait for ever, because results are kept under texts.
    """
    if not given:
        return str(uuid.uuid4())
    task_id = given if in_canvas else as_text(given)
    if not isinstance(task_id, str) or len(task_id) > MOST_ID:
        other = "" if in_canvas else ", or a UUID"
        raise InvalidOption("task_id", described(given), f"a text of at most {MOST_ID} characters{other}")
    return task_id


def as_text(task_id: Any) -> Any:
    """A UUID, as of a model's field or a URL, as text: results are kept under texts. What is no UUID stays as it is."""
    return str(task_id) if isinstance(task_id, uuid.UUID) else task_id


def unfolded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call by the names in `ARGUMENTS`, also where they stand under `CALL` and the others are
    fields. What is under `CALL` and cannot be that is left there, and `check_message` refuses it."""
    own = arguments.get(CALL)
    if not isinstance(own, Mapping) or "fields" in own:
        return dict(arguments)
    fields = {name: value for name, value in arguments.items() if name != CALL}
    return {**own, "fields": fields} if fields else dict(own)


def check_message(arguments: Mapping[str, Any]) -> None:
    """Raises InvalidOption for a keyword argument of `runpod.run` that is unknown, or of a wrong type."""
    for unknown in arguments.keys() - ARGUMENTS.keys():
        raise InvalidOption(unknown[:80], described(arguments[unknown]), f"one of {', '.join(sorted(ARGUMENTS))}")
    for name, (kind, allowed) in ARGUMENTS.items():
        given = arguments.get(name)
        if given is not None and (isinstance(given, bool) or not isinstance(given, kind)):
            raise InvalidOption(name, described(given), allowed)


def returned_error(error: RunPodError, job_id: str | None) -> dict[str, Any]:
    """The result of a job that failed with `on_error="return"`."""
    return {"error": {"type": type(error).__name__, "message": str(error), "job_id": job_id}}


def merge_input(inputs: tuple[Any, ...] | list[Any], fields_: Mapping[str, Any], endpoint: str) -> Any:
    """The job's input, from the arguments of a message.

    `inputs` holds at most two: the result of the previous task in a chain, and the positional input. Fields are merged
    over the input, the input over the previous result.

    Raises:
        InvalidInput: more than two inputs, or a merge of values that are not both dicts.
    """
    if len(inputs) > 2:
        raise InvalidInput(f"{len(inputs)} positional arguments given; allowed: one input", endpoint)
    layers = [*inputs, dict(fields_)] if fields_ else list(inputs)
    if not layers:
        return {}
    merged = layers[0]
    for layer in layers[1:]:
        if not isinstance(merged, Mapping) or not isinstance(layer, Mapping):
            raise InvalidInput(
                f"cannot merge {type(layer).__name__} over {type(merged).__name__}: only a dict goes over a dict "
                "(in a chain, use .si(...) where the previous result is not the input)",
                endpoint,
            )
        merged = {**merged, **layer}
    return merged


def not_before(countdown: Any, eta: Any, timezone: Callable[[], tzinfo]) -> float | None:
    """Celery's `countdown` or `eta` as seconds since 1970; None where neither is given. `timezone` is that of an eta
    without one.

    Raises:
        InvalidOption: neither seconds nor a `timedelta`; or not a datetime.
    """
    if countdown is not None:
        seconds = in_seconds(countdown)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise InvalidOption("countdown", repr(countdown), "seconds")
        eta = datetime.now(UTC) + timedelta(seconds=seconds)
    if isinstance(eta, str):
        eta = datetime.fromisoformat(eta)
    if eta is None:
        return None
    if not isinstance(eta, datetime):
        raise InvalidOption("eta", repr(eta), "a datetime")
    return (eta if eta.tzinfo else eta.replace(tzinfo=timezone())).timestamp()


def takes_celerys_arguments(app: Celery, errback: Mapping[str, Any]) -> bool:
    """Whether the app knows this errback, and it takes `(request, exc, traceback)` and not a task id alone."""
    task = app.tasks.get(errback.get("task") or "")
    header = getattr(task, "__header__", None)
    if header is None or errback.get("immutable"):
        return False
    args, kwargs = errback.get("args") or (), errback.get("kwargs") or {}
    return not _fits(header, 1, args, kwargs) and _fits(header, 3, args, kwargs)


def _fits(header: Any, given: int, args: Any, kwargs: Any) -> bool:
    try:
        header(*range(given), *args, **kwargs)
    except TypeError:
        return False
    return True
