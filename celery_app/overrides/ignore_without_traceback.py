"""A task that leaves its slot with `Ignore` costs no traceback.

`Ignore` is how `runpod.run` says that the job is parked. Celery copies its traceback frame by frame, twice, writes it as
text, and sends it from the pool to the main process, where nothing reads it: an eighth of the pool's CPU for a job.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.app import trace
from celery.exceptions import Ignore

Raised = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class BriefExceptionInfo(ExceptionInfo):  # type: ignore[misc]
    """As billiard's, but without the traceback of an `Ignore`."""

    def __init__(self, exc_info: Raised | None = None, internal: bool = False) -> None:
        raised: Any = exc_info or sys.exc_info()
        if isinstance(raised[1], Ignore):
            self.type, self.exception, self.traceback, self.internal = raised[0], raised[1], "", internal
        else:
            super().__init__(raised, internal)


def install() -> None:
    """For every app of this process: the name is one of Celery's module (tried with 5.7)."""
    trace.ExceptionInfo = BriefExceptionInfo
