"""Durations as users give them, seconds or `timedelta`, and RunPod's bounds of them.

Not here: RunPod's milliseconds in an answer (``_fields.py``).
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, overload

from celery_runpod.errors import InvalidOption

MAX_S = 7 * 86_400.0
"""RunPod's longest `executionTimeout` and `ttl` (docs.runpod.io/serverless/endpoints/send-requests)."""
MIN_EXECUTION_TIMEOUT_S = 5.0
MIN_TTL_S = 10.0


def in_seconds(value: Any) -> Any:
    """A `timedelta` as seconds; any other value as it is."""
    return value.total_seconds() if isinstance(value, timedelta) else value


@overload
def bounded(option: str, value: float | timedelta, least_s: float, most_s: float) -> float: ...
@overload
def bounded(option: str, value: float | timedelta | None, least_s: float, most_s: float) -> float | None: ...
def bounded(option: str, value: float | timedelta | None, least_s: float, most_s: float) -> float | None:
    """A duration in seconds.

    Raises:
        InvalidOption: it is out of its bounds, or neither a number nor a `timedelta`.
    """
    if value is None:
        return None
    seconds = in_seconds(value)
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not least_s <= seconds <= most_s:
        given = seconds if is_number and math.isfinite(seconds) else repr(value)
        raise InvalidOption(option, given, f"{least_s:g} to {most_s:g} seconds, or a timedelta")
    return float(seconds)


def milliseconds(duration: float | timedelta | None) -> int | None:
    """A duration as RunPod wants most of them; None stays None."""
    return None if duration is None else round(in_seconds(duration) * 1000)


def whole_seconds(duration: float | timedelta | None) -> int | None:
    """A duration of whole seconds as RunPod wants the others; None stays None."""
    return None if duration is None else int(in_seconds(duration))
