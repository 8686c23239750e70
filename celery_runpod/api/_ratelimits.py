"""How long to wait after a 429, from the answer's headers. Pure.

    Retry-After        seconds, or a time; used first
    RateLimit          REST v2: what is left of each window, `"minute";r=0;t=12, "hour";r=2800;t=1812`
    RateLimit-Policy   REST v2: the windows, `"minute";q=60;w=60, "hour";q=3000;w=3600`

The last two are RunPod's form of the IETF draft on rate limit headers (docs.runpod.io/api-reference-v2).

Not here: waiting; the worker's own budgets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 3600.0
HEADERS = ("Date", "Retry-After", "RateLimit", "RateLimit-Policy")
"""The headers that are read here."""

_PARAMETER = re.compile(r";\s*([a-z])\s*=\s*(\d{1,9})(?![\d.])")


def wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until RunPod would take a request again; None if the headers do not say; at most an hour.

    >>> wait_s({"RateLimit": '"minute";r=0;t=12, "hour";r=2800;t=1812'})
    12.0
    """
    asked_s = retry_after_s(headers.get("Retry-After"), headers.get("Date"))
    if asked_s is not None:
        return asked_s
    used_up = [window["t"] for window in _windows(headers.get("RateLimit")) if window.get("r") == 0 and "t" in window]
    # The policy does not say which window is used up: wait for the shortest one.
    lengths = [window["w"] for window in _windows(headers.get("RateLimit-Policy")) if "w" in window]
    seconds = max(used_up) if used_up else min(lengths, default=None)
    return None if seconds is None else min(float(seconds), MAX_RETRY_AFTER_S)


def retry_after_s(value: str | None, date: str | None) -> float | None:
    """Seconds from a Retry-After header: a number, or a time minus the answer's own `Date`, so that this machine's clock
    does not matter. None if it cannot be read; at most an hour."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None


def _windows(value: str | None) -> Iterator[dict[str, int]]:
    """The parameters of each member of a list."""
    for member in (value or "")[:1000].split(","):
        yield {name: int(number) for name, number in _PARAMETER.findall(member)}
