"""Django's system checks: what would keep endpoints or webhooks from working. Next: ``views.py``."""

from __future__ import annotations

import os
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from celery_runpod.clientapp import client_app, client_settings
from celery_runpod.errors import ConfigurationError


@register()
def check_celery_runpod(**_: Any) -> list[CheckMessage]:
    """Errors E001 (no Celery app), E002 (a wrong setting); warning W001 (webhooks without a secret)."""
    found: list[CheckMessage] = []
    try:
        settings = client_settings()
    except ConfigurationError as error:
        return [Error(str(error), id="celery_runpod.E002")]
    try:
        client_app()
    except ConfigurationError as error:
        found.append(Error(str(error), id="celery_runpod.E001"))
    if os.environ.get("RUNPOD_WEBHOOK_URL") and not settings.webhook_secret:
        hint = "Set RUNPOD_WEBHOOK_SECRET to the same value here and in the RunPod workers."
        found.append(Warning("RunPod's webhooks would be refused: no secret.", hint=hint, id="celery_runpod.W001"))
    return found
