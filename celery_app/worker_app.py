"""The factory of the worker's Celery app: configuration, tasks, Request class, bootsteps, control commands.

It opens no connection: each process makes its own after fork (``process_services.py``).
"""

from __future__ import annotations

import gc
import logging
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, setup_logging, worker_init

import tasks
from celery_app.logs import configure_logging
from celery_app.overrides import ignore_without_traceback, redis_shortcuts, whole_results
from celery_app.overrides.revoke import install as install_revocation
from celery_app.process_services import Process
from celery_app.watchdog.self_healing import SelfHeal
from celery_runpod._connect import is_amqp, is_redis
from celery_runpod._protocol import FINISH, RUN
from celery_runpod._worker_mark import mark_as_worker
from config.celery_config import celery_config
from config.settings import Settings, load_settings

COLLECT_AFTER = 20_000
"""New objects. Python 3.11's own 700 cost a tenth of a job's CPU in the pool, for the little that is left to them."""
END_S = 5.0
"""How long before the visibility timeout an imported task is ended."""


def create_app(settings: Settings | None = None) -> Celery:
    """The worker's app.

    Raises:
        ConfigurationError: a setting is wrong; the text lists all of them.
    """
    settings = settings or load_settings()
    amqp = "celery_app.overrides.callers_queues:RabbitAMQP" if is_amqp(settings.broker_url) else None
    events = "celery_app.overrides.kept_dispatcher:KeptEvents"
    app = Celery("celery_runpod", set_as_current=True, amqp=amqp, events=events)
    app.config_from_object(celery_config(settings))
    mark_as_worker(app)
    process = Process(app, settings)
    app.runpod_process = process
    app.runpod_services = process.services
    app.loader.import_default_modules()
    app.finalize()
    for name in (RUN, FINISH):
        app.tasks[name].Request = "celery_app.overrides.unrevoked_request:UnrevokedRequest"
    redis_shortcuts.install()
    if is_redis(settings.broker_url):
        limit_imported(app, settings.visibility_timeout_s - END_S)
    ignore_without_traceback.install()
    whole_results.install()
    app.steps["worker"].add(SelfHeal)
    install_revocation()

    def configure(loglevel: int | str = logging.INFO, logfile: str | None = None, **_: Any) -> None:
        configure_logging(settings.log_json, loglevel, logfile)

    def remember(sender: str, **_: Any) -> None:
        process.hostname = sender

    worker_init.connect(collect_less_often, weak=False, dispatch_uid="celery_runpod.collect")
    celeryd_init.connect(remember, weak=False, dispatch_uid="celery_runpod.hostname")
    setup_logging.connect(configure, weak=False, dispatch_uid="celery_runpod.logging")
    return app


def collect_less_often(**_: Any) -> None:
    """Have Python's garbage collector come less often, and leave out what has been imported: that stays, and the
    processes of the pool share its memory."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


def limit_imported(app: Celery, most_s: float) -> None:
    """Give tasks of `RUNPOD_IMPORTS` a time limit below the visibility timeout. After that Redis delivers the message
    again, and the task would run twice at once, and pay twice for what it submits."""
    for name, task in app.tasks.items():
        if name not in tasks.NAMES and not name.startswith("celery."):
            task.time_limit = min(task.time_limit or most_s, most_s)
