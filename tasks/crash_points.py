"""The numbered places at which a test kills a process. Without a test they do nothing.

A test sets `RUNPOD_DIE_AT` to the path of a file. While that file holds the name of a step, the first process that
reaches the step removes the file and is killed with SIGKILL; with " all" after the name, its whole worker is.
"""

from __future__ import annotations

import logging
import os
import signal
from enum import StrEnum
from pathlib import Path

log = logging.getLogger(__name__)


class Step(StrEnum):
    """In the order of a job's life."""

    RUN_RECEIVED = "run.1.received"
    RUN_ACCEPTED = "run.2.accepted"
    SYNC_RECEIVED = "sync.1.received"
    SUBMIT_INTENT_STORED = "submit.1.intent_stored"
    SUBMIT_POSTED = "submit.2.posted"
    SUBMIT_RECORDED = "submit.3.recorded"
    CHECK_LEASED = "check.1.leased"
    STREAM_BEGUN = "stream.1.begun"
    STREAM_TAKEN = "stream.2.taken"
    STREAM_KEPT = "stream.3.kept"
    CHECK_LOOKED = "check.2.looked"
    CHECK_ENDED = "check.3.ended"
    CHECK_PLANNED = "check.4.planned"
    OUTCOME_RECORDED = "outcome.1.recorded"
    OUTCOME_PASSED_ON = "outcome.2.passed_on"
    OUTCOME_RETRIED = "outcome.3.retried"
    FINISH_RECEIVED = "finish.1.received"
    FINISH_CLAIMED = "finish.2.claimed"
    FINISH_STORED = "finish.3.stored"
    FINISH_DELIVERED = "finish.4.delivered"


_FILE = os.environ.get("RUNPOD_DIE_AT")


def reach(step: Step) -> None:
    """Kill this process if a test has armed this step."""
    if not _FILE:
        return
    log.debug("step.reached", extra={"step": step})
    order = _taken(_FILE, step)
    if order:
        log.debug("step.dies", extra={"step": step})
    if order == step:
        os.kill(os.getpid(), signal.SIGKILL)
    elif order:
        os.killpg(os.getpgid(0), signal.SIGKILL)


def _taken(file: str, step: Step) -> str:
    """The content of the file if it names this step. The file is removed, so that only one process dies."""
    try:
        order = Path(file).read_text()
        if order.partition(" ")[0] != step:
            return ""
        os.unlink(file)
    except FileNotFoundError:
        return ""
    return order
