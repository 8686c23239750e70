"""Imported into a RunPod worker by `RUNPOD_IMPORTS`: keeps the log events that tell what each submit comes to.

A line is in the file before the process goes on, so it is there also if the process is killed at that moment.

Not here: what the events mean (``submits.py``).
"""

from __future__ import annotations

import json
import logging
import os

NOTES = "CHAOS_NOTES"
"""The variable that names the file."""
LOGGERS = ("tasks.crash_points", "tasks.gate", "tasks.services", "tasks.submit_sync")
FIELDS = ("task_id", "shares", "token", "attempt", "word", "step", "error", "sent")


class KeptEvents(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        who = {"pid": os.getpid(), "group": os.getpgid(0), "thread": record.thread}
        fields = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        line = json.dumps({"at": record.created, "event": record.getMessage(), **who, **fields}) + "\n"
        file = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


if NOTES in os.environ:
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.addHandler(KeptEvents())
