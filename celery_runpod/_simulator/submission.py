"""Reads the body of /run and /runsync into a job, as strictly as RunPod. Pure.

Bounds from docs.runpod.io/serverless/endpoints/send-requests. Not here: accepting the job (``job_routes.py``).
"""

from __future__ import annotations

import uuid
from typing import Any

from celery_runpod._simulator import strict
from celery_runpod._simulator.jobs import EXECUTION_TIMEOUT_S, TTL_S, Job

WEEK_S = 604_800.0
LARGEST = {"run": 10_000_000, "runsync": 20_000_000}
"""Operation -> bytes of its body."""


class BadSubmission(ValueError):
    """The request does not make a job."""


def parse(
    raw: bytes,
    endpoint: str,
    now: float,
    *,
    sync: bool,
    limits: bool = True,
    execution_timeout_s: float = EXECUTION_TIMEOUT_S,
) -> Job:
    """The job of a request. `execution_timeout_s`: the endpoint's, where the request has none.

    Raises:
        BadSubmission: what is wrong, without the request's values.
    """
    try:
        data = strict.loads(raw)
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
