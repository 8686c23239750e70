"""Django's system checks: what would keep endpoints or webhooks from working."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from django.core.checks import CheckMessage, Error, Warning, register

from celery_runpod._connect import check_reachable, client_app, client_settings
from celery_runpod._publish.agreement import compare
from celery_runpod.django._job_views import may_see_hook, most_streams
from celery_runpod.errors import BrokerUnavailable, ConfigurationError


@register()
def check_celery_runpod(**_: Any) -> list[CheckMessage]:
    """Errors E001 (no Celery app), E002 (a wrong setting), E003 (the app and the RunPod workers do not share broker,
    result backend or job store), E004 (a wrong value in the setting `RUNPOD`); warnings W001 (webhooks without a secret),
    W002 (E003 could not be found out)."""
    found: list[CheckMessage] = []
    for read in (may_see_hook, most_streams):
        try:
            read()
        except ConfigurationError as error:
            found.append(Error(str(error), id="celery_runpod.E004"))
    try:
        settings = client_settings()
    except ConfigurationError as error:
        return [*found, Error(str(error), id="celery_runpod.E002")]
    try:
        found += _compared(client_app())
    except ConfigurationError as error:
        found.append(Error(str(error), id="celery_runpod.E001"))
    if os.environ.get("RUNPOD_WEBHOOK_URL") and not settings.webhook_secret:
        hint = "Set RUNPOD_WEBHOOK_SECRET to the same value here and in the RunPod workers."
        found.append(Warning("RunPod's webhooks would be refused: no secret.", hint=hint, id="celery_runpod.W001"))
    return found


def _compared(app: Celery) -> list[CheckMessage]:
    """The same check as at each call. A broker that is away costs seconds; an eager app is not checked."""
    if app.conf.task_always_eager:
        return []
    try:
        check_reachable(app)
    except BrokerUnavailable as error:
        problem = f"Not compared with the RunPod workers: {error.role} at {error.url}: {error.reason}"
        return [Warning(problem, hint="Start it, or correct the URL.", id="celery_runpod.W002")]
    hint = "Give this app and the RunPod workers the same broker, result backend and job store."
    return [Error(str(problem), hint=hint, id="celery_runpod.E003") for problem in compare(app).problems]
