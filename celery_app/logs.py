"""The worker's log: lines of structlog from records of the standard library, with task id and job id on every line.

The tasks log events with fields; this module decides how a line looks.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from typing import Any

from celery import current_task
from structlog.dev import ConsoleRenderer
from structlog.processors import JSONRenderer, format_exc_info

from celery_runpod._escaping import shown, shown_block
from celery_runpod._protocol import CHECK_STATUS, FINISH, RUN, SUBMIT_SYNC
from celery_runpod.api._signatures import hide_signatures

CONSUMER = "celery.worker.consumer.consumer"
TASK_LINES = ("celery.worker.strategy", "celery.app.trace")
"""The loggers of Celery's lines "Task ... received", "succeeded in", "ignored" and "raised expected"."""
RECORD_KEYS = vars(logging.makeLogRecord({})).keys()
"""What every record has; the rest are the fields of an event."""
OUR_WORK = (RUN, SUBMIT_SYNC, FINISH, CHECK_STATUS)
_BODY = re.compile(r"(?s)(?:The full contents of the message body was:|\bbody: ).*")


class LineFormatter(logging.Formatter):
    """Writes a record as one line: its fields as JSON, or for a terminal. The lines are structlog's; its own
    `ProcessorFormatter` takes twice as long for one, and a job has several."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._render: Any = JSONRenderer() if as_json else ConsoleRenderer(colors=False)

    def format(self, record: logging.LogRecord) -> str:
        message, level = record.getMessage(), record.levelname.lower()
        if record.name == CONSUMER:
            # Its lines on a message that it refuses end with the whole message.
            message = _BODY.sub("(the message is not shown)", message)
        fields = {name: value for name, value in vars(record).items() if name not in RECORD_KEYS}
        # Celery's records hold a task's arguments as data.
        fields.pop("data", None)
        if "task_id" not in fields and current_task and current_task.request.id:
            fields["task_id"] = current_task.request.id
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        if record.exc_info:
            fields["exc_info"] = record.exc_info
            fields = dict(format_exc_info(None, level, fields))
        if not self._as_json:
            # JSON escapes control characters itself.
            fields = {name: _escaped(name, value) for name, value in fields.items()}
            message = shown(message)
        timestamp = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        line: str = self._render(None, level, {"event": message, "level": level, "timestamp": timestamp, **fields})
        # RunPod's answers, and other libraries at DEBUG, may repeat the URL of a webhook.
        return hide_signatures(line)


def _escaped(name: str, value: Any) -> Any:
    """Escape control characters in what handlers write, so that it forges no line of the log and does not control a
    terminal. A traceback keeps its lines, indented. The `repr` of other values escapes them already."""
    if not isinstance(value, str):
        return value
    return f"  {shown_block(value)}" if name == "exception" else shown(value)


def without_inner_work(record: logging.LogRecord) -> bool:
    """Leave out what Celery logs at INFO on the messages of a job. The lines show how long a message took,
    not the job, and checks have most of them. The job has lines of its own: `job.in_queue`, `job.succeeded`."""
    name = str(getattr(record, "data", {}).get("name", "")).partition("[")[0]
    return record.levelno != logging.INFO or name not in OUR_WORK


def configure_logging(as_json: bool, level: int | str = logging.INFO, logfile: str | None = None) -> None:
    """Write every record of the standard library's logging from this level on to standard error, or to a file (which may
    be rotated from outside)."""
    # One handler: standard error, or the worker's option --logfile.
    handler = WatchedFileHandler(logfile, encoding="utf-8") if logfile else logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in TASK_LINES:
        logger = logging.getLogger(name)
        logger.removeFilter(without_inner_work)
        # At DEBUG everything is shown.
        if not root.isEnabledFor(logging.DEBUG):
            logger.addFilter(without_inner_work)
