"""Signing and verifying the URL of a webhook. No framework, no Redis.

RunPod does not sign webhooks (docs.runpod.io/serverless/endpoints/send-requests), so the URL itself carries an HMAC
over namespace, endpoint, task id, attempt and expiry: only who was given the URL can call it, for that attempt alone,
and only while that attempt can be open.

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
"""For so long after the end of its attempt a URL is still good: RunPod tries a webhook three times, 10 s apart, and its
own queue of webhooks may be late."""


@dataclass(frozen=True)
class WebhookTarget:
    """Which attempt of which job a webhook speaks of."""

    endpoint: str
    task_id: str
    attempt: int


def signature(secret: str, namespace: str, target: WebhookTarget, expires: int) -> str:
    """Hex HMAC-SHA256 over target and expiry. JSON keeps the fields apart, whatever characters they hold."""
    fields = ["celery-runpod webhook", namespace, target.endpoint, target.task_id, target.attempt, expires]
    return hmac.new(secret.encode(), json.dumps(fields).encode(), hashlib.sha256).hexdigest()


def sign_url(
    base_url: str, secret: str, namespace: str, endpoint: str, task_id: str, attempt: int, ends_at: float
) -> str:
    """The URL to give to RunPod with one attempt. `ends_at`: when that attempt is over at the latest, in seconds since
    the epoch; the URL expires `MARGIN_S` later."""
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
    """The target that a request's query was signed for. None when it was not signed with any of the secrets, or has
    expired at `now`, in seconds since the epoch."""
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
