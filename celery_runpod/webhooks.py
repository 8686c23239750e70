"""Signing and verifying the URL of a webhook. No framework, no Redis.

RunPod does not sign webhooks (docs.runpod.io/serverless/endpoints/send-requests), so the URL itself carries an HMAC
over namespace, endpoint, task id and attempt: only who was given the URL can call it, and for that attempt alone.

Next: ``inbox.py``, what a view does with a request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit


@dataclass(frozen=True)
class WebhookTarget:
    """Which attempt of which job a webhook speaks of."""

    endpoint: str
    task_id: str
    attempt: int


def signature(secret: str, namespace: str, target: WebhookTarget) -> str:
    """Hex HMAC-SHA256 over the target. JSON keeps the fields apart, whatever characters they hold."""
    message = json.dumps(["celery-runpod webhook", namespace, target.endpoint, target.task_id, target.attempt])
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def sign_url(base_url: str, secret: str, namespace: str, endpoint: str, task_id: str, attempt: int) -> str:
    """The URL to give to RunPod with one attempt."""
    target = WebhookTarget(endpoint, task_id, attempt)
    query = urlencode(
        {
            "endpoint": endpoint,
            "task": task_id,
            "attempt": attempt,
            "signature": signature(secret, namespace, target),
        }
    )
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))


def verify(query: Mapping[str, str], secrets: Iterable[str | None], namespace: str) -> WebhookTarget | None:
    """The target that a request's query was signed for; None when it was not signed with any of the secrets."""
    try:
        target = WebhookTarget(query["endpoint"], query["task"], int(query["attempt"]))
        given = query["signature"].encode()
    except (KeyError, ValueError):
        return None
    matches = [
        hmac.compare_digest(signature(secret, namespace, target).encode(), given) for secret in secrets if secret
    ]
    return target if any(matches) else None
