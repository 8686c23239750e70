"""Which pools of Celery's a RunPod worker runs with, and why not with the others (docs/decisions/0021).

Not here: where it is asked, before Celery starts (`celery_runpod/_cli/celery_commands.py`), and in a worker that was
started with Celery's own command (`celery_app/watchdog/self_healing.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from celery_runpod._connect import is_redis
from celery_runpod.errors import ConfigurationError
from config.settings import Settings

SUPPORTED = {"prefork": "prefork", "processes": "prefork", "threads": "threads", "thread": "threads", "solo": "solo"}
"""Celery's words, those of its modules too -> the pool."""
_SHORT = re.compile(r"-[BDE]*P(.*)")
"""`-P NAME`, `-PNAME`, and with flags before it."""


def pool_of(options: Sequence[str]) -> str:
    """The pool that these options of `celery worker` name; "prefork" without one."""
    for option, following in zip(options, (*options[1:], ""), strict=False):
        name, _, value = option.partition("=")
        if name == "--pool":
            return value or following
        if short := _SHORT.fullmatch(option):
            return short[1] or following
    return "prefork"


def refuse_pool(given: str, settings: Settings) -> None:
    """Check the pool of a worker.

    Raises:
        ConfigurationError: RunPod workers do not run with it, or not with these settings.
    """
    pool = SUPPORTED.get(given)
    if pool is None:
        raise ConfigurationError(
            f"--pool {given} given; a RunPod worker runs with prefork (the default), threads or solo. It waits for "
            "RunPod in threads of its own, so green threads gain nothing, and no pool but these was tried"
        )
    if pool != "prefork" and settings.imports and is_redis(settings.broker_url):
        raise ConfigurationError(
            f"--pool {given} with RUNPOD_IMPORTS={','.join(settings.imports)} given; on Redis the tasks of these modules "
            "need a time limit (RUNPOD_VISIBILITY_TIMEOUT_S), or they run twice at once, and Celery keeps time limits in "
            "the pool prefork alone: leave --pool out, or run these tasks in a worker of their own"
        )
