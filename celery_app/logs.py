"""The worker's log: structlog over the standard library, with task id and job id on every line.

Not the tasks' own concern: they log events with fields, and this decides how a line looks.

Next: ``app.py``.
"""

from __future__ import annotations

import logging
import sys
from logging.handlers import WatchedFileHandler
from typing import Any

import structlog
from celery import current_task


def add_task_id(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """The running task's id, unless the line speaks of another one."""
    if current_task and current_task.request.id:
        event.setdefault("task_id", current_task.request.id)
    return event


def drop_arguments(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Celery's own lines carry the task's arguments beside the text: an input must be in no log."""
    event.pop("data", None)
    return event


def configure_logging(as_json: bool, level: int | str = logging.INFO, logfile: str | None = None) -> None:
    """Send every record of the standard library's logging from this level on through structlog to standard error, or
    to a file (which may be rotated from outside)."""
    before: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        drop_arguments,
        add_task_id,
    ]
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    # The root has one handler: the worker's command line chooses where it leads, as Celery's own does.
    handler = WatchedFileHandler(logfile, encoding="utf-8") if logfile else logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
