"""What RunPod takes: how many requests, how large, how long they wait, and what /run and /runsync must hold. Pure.

From docs.runpod.io/serverless/endpoints/operation-reference and .../send-requests. Not here: answering
(``job_routes.py``, ``worker_protocol.py``), the management API's own rules (``management/``), and the higher limits of
endpoints with many running workers, whose factor RunPod does not document.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import Counter, defaultdict, deque
from typing import Any

from celery_runpod._simulator.simulated_jobs import EXECUTION_TIMEOUT_S, TTL_S, Job

WINDOW_S = 10.0
LIMITS: dict[str, tuple[int, int | None]] = {
    "run": (1000, 200),
    "runsync": (2000, 400),
    "status": (2000, 400),
    "status-sync": (2000, 400),
    "stream": (2000, 400),
    "cancel": (100, 20),
    "purge-queue": (2, None),
    "requests": (10, 2),
}
"""Operation -> how many requests of an endpoint in the window, and how many at once."""
LARGEST = {"run": 10_000_000, "runsync": 20_000_000}
"""Operation -> bytes of its body."""
WAIT_S = {"runsync": (1.0, 300.0, 90.0), "status-sync": (1.0, 90.0, 90.0), "stream": (0.0, 90.0, 5.0)}
"""Operation -> least, most and default `wait` in seconds; RunPod documents those of /runsync alone."""
WEEK_S = 604_800.0


class Rates:
    """The requests of the last seconds, and those that are being answered."""

    def __init__(self) -> None:
        self._taken: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._open: Counter[tuple[str, str]] = Counter()

    def enter(self, endpoint: str, operation: str, now: float) -> bool:
        """Whether a request may come in. Where it may, `leave` must follow."""
        if operation not in LIMITS:
            return True
        key = (endpoint, operation)
        in_window, at_once = LIMITS[operation]
        taken = self._taken[key]
        while taken and taken[0] <= now - WINDOW_S:
            taken.popleft()
        if len(taken) >= in_window or (at_once is not None and self._open[key] >= at_once):
            return False
        taken.append(now)
        self._open[key] += 1
        return True

    def leave(self, endpoint: str, operation: str) -> None:
        """A request that came in has been answered."""
        self._open[(endpoint, operation)] -= 1

    def reset(self) -> None:
        """Forget the window; requests that are being answered still count."""
        self._taken.clear()


class BadSubmission(ValueError):
    """The request does not make a job."""


def parse_submission(
    raw: bytes,
    endpoint: str,
    now: float,
    *,
    sync: bool,
    limits: bool = True,
    execution_timeout_s: float = EXECUTION_TIMEOUT_S,
) -> Job:
    """The job of a request to /run or /runsync. `execution_timeout_s` is the endpoint's, for a request without one.

    Raises:
        BadSubmission: what is wrong, without the request's values.
    """
    try:
        data = read_json(raw)
    except ValueError:
        raise BadSubmission("the body is not JSON") from None
    if not isinstance(data, dict):
        raise BadSubmission("the body is not a JSON object")
    if "input" not in data or data["input"] is None:
        raise BadSubmission("the field 'input' is missing")
    webhook = data.get("webhook")
    if webhook is not None and not isinstance(webhook, str):
        raise BadSubmission("webhook must be a text")
    policy = data.get("policy") or {}
    if not isinstance(policy, dict):
        raise BadSubmission("policy must be an object")
    return Job(
        id=f"{'sync-' if sync else ''}{uuid.uuid4()}-u1",
        endpoint=endpoint,
        input=data["input"],
        submitted_at=now,
        webhook=webhook or None,
        sync=sync,
        low_priority=bool(policy.get("lowPriority")),
        execution_timeout_s=_seconds(policy, "executionTimeout", execution_timeout_s, 5.0 if limits else 0.0),
        ttl_s=_seconds(policy, "ttl", TTL_S, 10.0 if limits else 0.0),
        s3_config=data.get("s3Config"),
        size=len(raw),
    )


def _seconds(policy: dict[str, Any], name: str, default: float, least: float) -> float:
    value = policy.get(name)
    if value is None:
        return default
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least * 1000 <= value <= WEEK_S * 1000:
        raise BadSubmission(f"policy.{name} must be from {least * 1000:g} to {WEEK_S * 1000:.0f} milliseconds")
    return float(value / 1000)


def read_json(raw: bytes) -> Any:
    """The value of a JSON text from a client. It can be written again as JSON: Python's own reader also takes `NaN` and
    `1e999`, and its writer makes words of them that no other reader takes.

    Raises:
        ValueError: it is not JSON, has a number that is none, or is nested too deep.
    """
    try:
        return json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
