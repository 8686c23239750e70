"""Django's system checks: what would keep endpoints, pages or webhooks from working."""

from __future__ import annotations

import threading
from typing import Any

from celery import Celery
from django.core.checks import CheckMessage, Error, Warning, register
from django.urls import NoReverseMatch, reverse

from celery_runpod._connect import check_reachable, client_app, client_settings, environment
from celery_runpod._publish.agreement import PLACES, compare
from celery_runpod.django._settings import given_settings, may_see_hook, most_streams
from celery_runpod.errors import BrokerUnavailable, ConfigurationError, ConfigurationMismatch

BOTH_PLACES = "It is a variable of the environment, or stands without RUNPOD_ in the setting RUNPOD."
SET_DEFAULT = "Call app.set_default() where the app is made, and import that module in the project's __init__.py."


@register()
def check_celery_runpod(**_: Any) -> list[CheckMessage]:
    """Errors: E001 (no Celery app), E002 (a variable of the environment, or what stands for it in the setting `RUNPOD`,
    has a wrong value), E003 (the app and the RunPod workers do not share broker, result backend or job store), E004 (a
    wrong name or value in the setting `RUNPOD`), E005 (the app has no result backend). Warnings: W001 (webhooks without
    a secret), W002 (E003 could not be found out), W003 (the pages of jobs refuse everybody, because `MAY_SEE` is
    missing), W004 (other threads of this process publish by another Celery app)."""
    try:
        given_settings()
    except ConfigurationError as error:
        return [Error(str(error), id="celery_runpod.E004")]
    found: list[CheckMessage] = []
    for read in (may_see_hook, most_streams):
        try:
            read()
        except ConfigurationError as error:
            found.append(Error(str(error), id="celery_runpod.E004"))
    if not found:
        found += _hook_missing()
    try:
        settings = client_settings()
    except ConfigurationError as error:
        return [*found, Error(str(error), hint=BOTH_PLACES, id="celery_runpod.E002")]
    try:
        app = client_app()
    except ConfigurationError as error:
        found.append(Error(str(error), hint=SET_DEFAULT, id="celery_runpod.E001"))
    else:
        found += [*_of_other_threads(app), *_compared(app)]
    if environment().get("RUNPOD_WEBHOOK_URL") and not settings.webhook_secret:
        hint = f"Set RUNPOD_WEBHOOK_SECRET to the same value here and in the RunPod workers. {BOTH_PLACES}"
        found.append(Warning("RunPod's webhooks would be refused: no secret.", hint=hint, id="celery_runpod.W001"))
    return found


def _hook_missing() -> list[CheckMessage]:
    try:
        where = reverse("celery_runpod:job")
    except NoReverseMatch:
        return []
    if may_see_hook() is not None:
        return []
    hint = 'Set RUNPOD = {"MAY_SEE": "shop.jobs.may_see"} to your own function of (request, task_id).'
    return [Warning(f"Nobody may see a job at {where}: no MAY_SEE.", hint=hint, id="celery_runpod.W003")]


def _of_other_threads(app: Celery) -> list[CheckMessage]:
    """Celery's current app is that of the thread that made it. Other threads, as a web server's, have the default one."""
    there: list[Celery | None] = [None]

    def look() -> None:
        try:
            there[0] = client_app()
        except ConfigurationError:
            pass

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    if there[0] is app:
        return []
    other = "no Celery app" if there[0] is None else f"the Celery app {there[0].main or 'without a name'!r}"
    problem = f"The Celery app {app.main or 'without a name'!r} is this thread's alone: other threads have {other}."
    return [Warning(problem, hint=SET_DEFAULT, id="celery_runpod.W004")]


def _compared(app: Celery) -> list[CheckMessage]:
    """The same check as at each call. A broker that is away costs seconds; an eager app is not checked."""
    if app.conf.task_always_eager:
        return []
    if not app.conf.result_backend:
        problem = "The Celery app has no result backend, and the end of a job is a result."
        hint = "Set CELERY_RESULT_BACKEND to the Redis that is the RunPod workers' result backend."
        return [Error(problem, hint=hint, id="celery_runpod.E005")]
    try:
        check_reachable(app)
    except BrokerUnavailable as error:
        problem = f"Not compared with the RunPod workers: {error.role} at {error.url}: {error.reason}"
        return [Warning(problem, hint="Start it, or correct the URL.", id="celery_runpod.W002")]
    return [Error(str(problem), hint=_hint_for(problem), id="celery_runpod.E003") for problem in compare(app).problems]


def _hint_for(problem: ConfigurationMismatch) -> str:
    if problem.setting in PLACES:
        return "Give this app and the RunPod workers the same broker, result backend and job store."
    return f"Correct CELERY_{problem.setting.upper()}: the RunPod workers send and store JSON."
