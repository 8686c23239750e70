"""What an HTTP answer means: its JSON, or the error that it stands for. Pure.

    2xx with JSON                           the JSON
    400 with a FAILED job                   the JSON: public endpoints answer so
    429                                     RateLimited: not taken, whatever the body is
    2xx that is not JSON, or over 64 MB     BadAnswer: it may have been acted on
    3xx, 408, 425, 499, 5xx, a cut body     Unavailable(sent=True): it may have been acted on
    404 as a web page, about a job          Unavailable(sent=True): this is not RunPod's API talking about the job
    404                                     EndpointNotFound or JobNotFound
    401, 403                                Unauthorized
    another 4xx                             RequestRejected

Bodies are never quoted, but for the field that tells the error: `input` and `webhook` can come back in them.

Not here: getting the answer (``transport.py``).

Next: ``answers.py``, for what is in the JSON of a success.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from celery_runpod.errors import (
    ApiError,
    BadAnswer,
    EndpointNotFound,
    JobNotFound,
    RateLimited,
    RequestRejected,
    Unauthorized,
    Unavailable,
)

MAX_TEXT = 500
MAX_RETRY_AFTER_S = 3600.0
# 408: the request did not arrive in time; 425: too early; 499: a proxy's word for "the client went away".
_UNCLEAR = frozenset({408, 425, 499})


@dataclass(frozen=True)
class Where:
    """What was called: part of every error."""

    operation: str
    endpoint: str
    job_id: str | None = None

    def error(self, kind: type[ApiError], message: str, status: int | None = None, **fields: Any) -> ApiError:
        return kind(message, self.operation, self.endpoint, status, self.job_id, **fields)


@dataclass(frozen=True)
class RawAnswer:
    """An HTTP answer. `cut` says why its body did not come to its end, None if it did."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    cut: str | None = None
    oversized: bool = False


def read(answer: RawAnswer, where: Where) -> Any:
    """The JSON of a successful answer.

    Raises:
        ApiError: the kind that the table above tells.
    """
    status = answer.status
    if status == 429:
        after = retry_after_s(answer.headers.get("Retry-After"), answer.headers.get("Date"))
        raise where.error(RateLimited, _reason(answer), status, retry_after_s=after)
    if answer.cut is not None:
        raise where.error(Unavailable, f"the answer broke off: {answer.cut}", status)
    if 200 <= status < 300:
        if answer.oversized:
            raise where.error(BadAnswer, f"the answer is longer than {len(answer.body)} bytes", status)
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            problem = "the answer is not JSON" if answer.body else "the answer is empty"
        raise where.error(BadAnswer, problem, status)
    if status == 400:
        data = _json(answer)
        if isinstance(data, dict) and data.get("status") == "FAILED" and isinstance(data.get("id"), str) and data["id"]:
            return data
    raise _refusal(answer, where)


def _refusal(answer: RawAnswer, where: Where) -> ApiError:
    status, reason = answer.status, _reason(answer)
    if 300 <= status < 400:
        return where.error(Unavailable, "a redirect, which is not followed: is the base URL right?", status)
    if not 400 <= status < 500 or status in _UNCLEAR:
        return where.error(Unavailable, reason, status)
    if status in (401, 403):
        return where.error(Unauthorized, reason, status)
    if status == 404:
        if where.job_id is None or re.search(r"endpoint\b.*\bnot found", reason, re.IGNORECASE):
            return where.error(EndpointNotFound, reason, status)
        if _is_page(answer):
            return where.error(Unavailable, f"{reason}, not from RunPod's API: is the base URL right?", status)
        return where.error(JobNotFound, reason, status)
    return where.error(RequestRejected, reason, status)


def _json(answer: RawAnswer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _is_page(answer: RawAnswer) -> bool:
    return answer.body.lstrip()[:1] == b"<" or "html" in answer.headers.get("Content-Type", "").lower()


def _reason(answer: RawAnswer) -> str:
    """RunPod's own words for an error, bounded; of a web page its title."""
    data = _json(answer)
    if isinstance(data, dict):
        told = next((data[name] for name in ("error", "message", "detail", "title") if data.get(name)), None)
        text = told if isinstance(told, str) else "" if told is None else json.dumps(told)
    elif isinstance(data, str):
        text = data
    elif _is_page(answer):
        title = re.search(rb"<title[^<>]*>([^<]*)</title", answer.body[:65_536], re.IGNORECASE)
        words = " ".join(title[1].decode("utf-8", "replace").split()) if title else ""
        text = f"a web page: {words}" if words else "a web page"
    else:
        text = "" if data is not None else answer.body[: 4 * MAX_TEXT].decode("utf-8", "replace").strip()
    return shorten(text) or "no reason given"


def shorten(text: str) -> str:
    """At most `MAX_TEXT` characters."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 4]} ..."


def retry_after_s(value: str | None, date: str | None) -> float | None:
    """Seconds from a Retry-After header: a number, or a moment to be compared with the answer's own `Date`, so that
    no clock of ours has a say. None if it tells nothing; at most an hour."""
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
