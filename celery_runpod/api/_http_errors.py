"""What an HTTP answer of RunPod means: its JSON, or an error. Pure.

    2xx with JSON                           the JSON; what is nested far too deeply in it is null (``_depth.py``)
    2xx of an operation without a body      None, whatever the body is
    400 with a FAILED job                   the JSON: public endpoints answer so
    429                                     RateLimited: not accepted, whatever the body is
    2xx that is not JSON, or over 64 MB     BadAnswer: it may have been acted on
    3xx, 408, 425, 499, 5xx, a cut body     Unavailable(sent=True): it may have been acted on
    404 as a web page, about a job or pod   Unavailable(sent=True): the page does not come from RunPod's API
    404 about an endpoint, a job, a pod     EndpointNotFound, JobNotFound, PodNotFound
    400 that says so                        EndpointNotFound, PodNotFound
    401, 403                                Unauthorized
    another 4xx, for example 409            RequestRejected

A body may repeat `input` and `webhook`, so errors quote its error fields alone: `{"error"}` (jobs), `{"message"}`, and a
problem of RFC 9457 (the REST API).

Not here: getting the answer (``_transport.py``), how long to wait after a 429 (``_ratelimits.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_runpod.api._depth import loads
from celery_runpod.api._ratelimits import wait_s
from celery_runpod.errors import (
    ApiError,
    BadAnswer,
    EndpointNotFound,
    JobNotFound,
    PodNotFound,
    RateLimited,
    RequestRejected,
    Unauthorized,
    Unavailable,
)

MAX_TEXT = 500
# 408: the request did not arrive in time; 425: too early; 499: a proxy lost the client.
_UNCLEAR = frozenset({408, 425, 499})
# REST v1 documents 400 for an id that it does not know: "Invalid Pod ID."
_UNKNOWN = re.compile(r"\b(?:pod|endpoint)\W+(?:was |is )?not found\b|\binvalid (?:pod|endpoint) id\b", re.IGNORECASE)


@dataclass(frozen=True)
class Where:
    """What was called; part of every error. Most errors have no field for a pod, so their text names it."""

    operation: str
    endpoint: str | None = None
    job_id: str | None = None
    pod_id: str | None = None

    def error(self, kind: type[ApiError], message: str, status: int | None = None, **fields: Any) -> ApiError:
        if kind is PodNotFound:
            fields["pod_id"] = self.pod_id
        text = f"{message} (pod {self.pod_id})" if self.pod_id else message
        return kind(text, self.operation, self.endpoint, status, self.job_id, **fields)


@dataclass(frozen=True)
class RawAnswer:
    """An HTTP answer. `cut` says why its body broke off; None if it is complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    cut: str | None = None
    oversized: bool = False


def read(answer: RawAnswer, where: Where, *, has_body: bool = True) -> Any:
    """The JSON of a successful answer; None if the operation has no body.

    Raises:
        ApiError: its class is in the table above.
    """
    status = answer.status
    if status == 429:
        raise where.error(RateLimited, _reason(answer), status, retry_after_s=wait_s(answer.headers))
    if 200 <= status < 300 and not has_body:
        return None
    if answer.cut is not None:
        raise where.error(Unavailable, f"the answer broke off: {answer.cut}", status)
    if 200 <= status < 300:
        if answer.oversized:
            raise where.error(BadAnswer, f"the answer is longer than {len(answer.body)} bytes", status)
        try:
            return loads(answer.body)
        except ValueError:
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
    asked_for = where.pod_id or where.endpoint or ""
    if status == 404 or (status == 400 and where.job_id is None and _UNKNOWN.search(reason.replace(asked_for, ""))):
        return _not_found(answer, where, reason)
    return where.error(RequestRejected, reason, status)


def _not_found(answer: RawAnswer, where: Where, reason: str) -> ApiError:
    status = answer.status
    if where.pod_id is None and where.endpoint is None:
        # No id was part of the request: a template is missing, or the path is not RunPod's.
        return where.error(RequestRejected, reason, status)
    if where.pod_id is None and (where.job_id is None or re.search(r"endpoint\b.*\bnot found", reason, re.IGNORECASE)):
        return where.error(EndpointNotFound, reason, status)
    if _is_page(answer):
        return where.error(Unavailable, f"{reason}, not from RunPod's API: is the base URL right?", status)
    return where.error(JobNotFound if where.pod_id is None else PodNotFound, reason, status)


def _json(answer: RawAnswer) -> Any:
    try:
        return loads(answer.body)
    except ValueError:
        return None


def _is_page(answer: RawAnswer) -> bool:
    return answer.body.lstrip()[:1] == b"<" or "html" in answer.headers.get("Content-Type", "").lower()


def _reason(answer: RawAnswer) -> str:
    """RunPod's text for an error, shortened; of a web page its title."""
    data = _json(answer)
    if isinstance(data, dict):
        problem = next((data[name] for name in ("error", "message", "detail", "title") if data.get(name)), None)
        text = problem if isinstance(problem, str) else "" if problem is None else json.dumps(problem)
        # RFC 9457, as RunPod's REST v2 has it: "errors: individual request-validation failures".
        if isinstance(data.get("errors"), list):
            text = ": ".join(filter(None, (text, "; ".join(one for one in data["errors"] if isinstance(one, str)))))
    elif isinstance(data, str):
        text = data
    elif _is_page(answer):
        title = re.search(rb"<title[^<>]*>([^<]*)</title", answer.body[:65_536], re.IGNORECASE)
        found = " ".join(title[1].decode("utf-8", "replace").split()) if title else ""
        text = f"a web page: {found}" if found else "a web page"
    else:
        text = "" if data is not None else answer.body[: 4 * MAX_TEXT].decode("utf-8", "replace").strip()
    return shorten(text) or "no reason given"


def shorten(text: str) -> str:
    """At most `MAX_TEXT` characters."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 4]} ..."
