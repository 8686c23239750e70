"""Signing and verifying the URL of a webhook. No framework, no Redis.

RunPod does not sign webhooks (docs.runpod.io/serverless/endpoints/send-requests). So the URL carries an HMAC over
namespace, endpoint, task id, attempt and expiry: only who has the URL can call it, for that attempt alone, until it
expires.

Not here: what a view does with a request (``receive.py``).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

MARGIN_S = 900.0
"""How long a URL is valid after the end of its attempt: RunPod tries a webhook three times, 10 s apart, and may send it
late."""


@dataclass(frozen=True)
class WebhookTarget:
    """The attempt of a job that a webhook is about."""

    endpoint: str
    task_id: str
    attempt: int


def signature(secret: str, namespace: str, target: WebhookTarget, expires: int) -> str:
    """Hex HMAC-SHA256 over target and expiry. JSON separates the fields, whatever characters they hold."""
    fields = ["celery-runpod webhook", namespace, target.endpoint, target.task_id, target.attempt, expires]
    return hmac.new(secret.encode(), json.dumps(fields).encode(), hashlib.sha256).hexdigest()


def sign_url(
    base_url: str, secret: str, namespace: str, endpoint: str, task_id: str, attempt: int, ends_at: float
) -> str:
    """The URL that RunPod gets with one attempt. `ends_at`: the latest end of that attempt, in seconds since 1970; the
    URL expires `MARGIN_S` later."""
    target, expires = WebhookTarget(endpoint, task_id, attempt), math.ceil(ends_at + MARGIN_S)
    query = urlencode(
        {
            "endpoint": endpoint,
            "task": task_id,
            "attempt": attempt,
            "expires": expires,
            "signature": signature(secret, namespace, target, expires),
        }
    )
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))


def verify(query: Mapping[str, str], secrets: Iterable[str | None], namespace: str, now: float) -> WebhookTarget | None:
    """The target of a signed query. None if no secret matches its signature, or if it has expired at `now` (seconds since
    1970)."""
    try:
        target = WebhookTarget(query["endpoint"], query["task"], int(query["attempt"]))
        expires = int(query["expires"])
        given = query["signature"].encode()
    except (KeyError, ValueError):
        return None
    matches = [
        hmac.compare_digest(signature(secret, namespace, target, expires).encode(), given)
        for secret in secrets
        if secret
    ]
    return target if any(matches) and now < expires else None
