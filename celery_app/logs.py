"""The worker's log: structlog over the standard library, with task id and job id on every line.

The tasks log events with fields; this module decides how a line looks.
"""

from __future__ import annotations

import logging
import re
import sys
from logging.handlers import WatchedFileHandler
from typing import Any

import structlog
from celery import current_task

from celery_runpod._escaping import shown, shown_block
from celery_runpod._protocol import CHECK_STATUS, FINISH, RUN, SUBMIT_SYNC
from celery_runpod.api._signatures import hide_signatures

CONSUMER = "celery.worker.consumer.consumer"
TASK_LINES = ("celery.worker.strategy", "celery.app.trace")
"""The loggers of Celery's lines "Task ... received", "succeeded in", "ignored" and "raised expected"."""
OUR_WORK = (RUN, SUBMIT_SYNC, FINISH, CHECK_STATUS)
_BODY = re.compile(r"(?s)(?:The full contents of the message body was:|\bbody: ).*")


def add_task_id(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add the running task's id, unless the line has a task id already."""
    if current_task and current_task.request.id:
        event.setdefault("task_id", current_task.request.id)
    return event


def drop_arguments(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Remove inputs: Celery's records hold a task's arguments as data, and the lines of its consumer on a message that it
    refuses end with the whole message."""
    event.pop("data", None)
    if getattr(event.get("_record"), "name", "") == CONSUMER:
        event["event"] = _BODY.sub("(the message is not shown)", str(event["event"]))
    return event


def mask_signatures(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Hide the signatures of webhook URLs, which RunPod's answers and other libraries (at DEBUG) may repeat."""
    return {name: _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return hide_signatures(value)
    if isinstance(value, dict):
        return {name: _masked(one) for name, one in value.items()}
    return [_masked(one) for one in value] if isinstance(value, list | tuple) else value


def escape_controls(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Escape control characters in what handlers write, so that it forges no line of the log and does not control a
    terminal. A traceback keeps its lines, indented. The `repr` of other values escapes them already."""
    return {name: _escaped(name, value) for name, value in event.items()}


def _escaped(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return f"  {shown_block(value)}" if name in ("exception", "stack") else shown(value)


def without_inner_work(record: logging.LogRecord) -> bool:
    """Leave out what Celery logs at INFO on the messages of a job. The lines show how long a message took,
    not the job, and checks have most of them. The job has lines of its own: `job.in_queue`, `job.succeeded`."""
    name = str(getattr(record, "data", {}).get("name", "")).partition("[")[0]
    return record.levelno != logging.INFO or name not in OUR_WORK


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
    # JSON escapes control characters itself.
    lines: list[Any] = [escape_controls, structlog.dev.ConsoleRenderer(colors=False)]
    renderers: list[Any] = [structlog.processors.JSONRenderer()] if as_json else lines
    after: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        mask_signatures,
        *renderers,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=after)
    # One handler: standard error, or the worker's option --logfile.
    handler = WatchedFileHandler(logfile, encoding="utf-8") if logfile else logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in TASK_LINES:
        logger = logging.getLogger(name)
        logger.removeFilter(without_inner_work)
        # At DEBUG everything is shown.
        if not root.isEnabledFor(logging.DEBUG):
            logger.addFilter(without_inner_work)
