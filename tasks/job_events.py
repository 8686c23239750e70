"""A job's Celery events, by which Flower shows RunPod's id, the reason and the job's own times.

Flower's page of a task shows only Celery's fields. `result` is the one that takes a text of our own: the output is never
in it, because it may be private. Not here: when an open job is shown (`celery_app/announcer.py`).
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from celery_runpod._protocol import RUN
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.api import Job

log = logging.getLogger(__name__)

MOST_PROGRESS = 65_536
"""Characters of JSON."""


def open_fields(job: JobRecord, news: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an open job, by its record and what a look has just shown: `result`, and `started` (s since 1970)
    once a RunPod worker has begun."""
    started, delay_s, reason = job.started_at, news.get("delay_s"), news.get("reason")
    if job.submitted_at is not None and delay_s is not None:
        started = job.submitted_at + float(delay_s)
    return {"result": _line(f"reason {reason}" if reason else "", *_which_job(job)), "started": started}


def progress_of(answer: Job) -> tuple[str, dict[str, Any]]:
    """The handler's latest progress, as JSON for the record and as a field to show; "" and none where there is none.
    A progress over `MOST_PROGRESS` is replaced by a word on it: everybody who looks at the job reads it."""
    if answer.state != State.IN_PROGRESS or answer.output is None:
        return "", {}
    progress, text = answer.output, json.dumps(answer.output)
    if len(text) > MOST_PROGRESS:
        progress = {"left_out": f"a progress of {len(text)} characters; at most {MOST_PROGRESS} are shown"}
        text = json.dumps(progress)
    return text, {"progress": progress}


def ended_fields(job: JobRecord) -> dict[str, Any]:
    """The fields of a job that has ended: `result`; `started` and `ended` (s since 1970), and `runtime` (s), by RunPod's
    times where it gave them. A time that is not known is None."""
    outcome = job.outcome or {}
    delay_s, execution_s = outcome.get("delay_s"), outcome.get("execution_s")
    started, ended = job.started_at, job.ended_at
    if job.submitted_at is not None and delay_s is not None and execution_s is not None:
        started = job.submitted_at + float(delay_s)
        # RunPod's clock is not ours: a job did not end after a worker has seen its end.
        ended = min(started + float(execution_s), ended or started + float(execution_s))
    runtime = execution_s
    if runtime is None and started is not None and ended is not None:
        runtime = max(0.0, ended - started)
    waited = "" if delay_s is None else f"waited {float(delay_s):.2f} s"
    worked = "" if execution_s is None else f"worked {float(execution_s):.2f} s"
    line = _line(*_which_job(job), waited, worked)
    return {"result": line, "started": started, "ended": ended, "runtime": runtime}


def show_end(task: Any, job: JobRecord | None, error: BaseException | None) -> None:
    """Show in log and Flower that the caller has the result, with the job's own times; `job` is None where its record was
    not read. Celery's line and event would show how long `finish` took. If the event cannot be sent, the job is not
    affected."""
    task_id, shown, ended = task.request.id, {}, None
    fields: dict[str, Any] = {"task_id": task_id}
    if job is not None:
        shown = {"name": f"{RUN}[{job.name}]", **ended_fields(job)}
        ended = shown.pop("ended")
        fields |= {"job_id": job.job_id, "endpoint": job.name, "runtime_s": shown["runtime"]}
    if error is None:
        log.info("job.succeeded", extra=fields)
        kind, news = "task-succeeded", {"succeeded": ended}
    else:
        log.info("job.failed", extra={**fields, "error": f"{type(error).__name__}: {error}"})
        text = "".join(traceback.format_exception(error))
        kind, news = "task-failed", {"failed": ended, "exception": repr(error), "traceback": text}
    _send(task, kind, **shown, **news)


def show_revoked(task: Any, job: JobRecord, reason: str) -> None:
    """Show that a job has ended as REVOKED, as `show_end` does. `reason`: "revoked" or "expired"."""
    log.info(
        "job.revoked", extra={"task_id": job.task_id, "job_id": job.job_id, "endpoint": job.name, "reason": reason}
    )
    shown = ended_fields(job)
    revoked = {"terminated": False, "signum": None, "expired": reason == "expired", "revoked": shown.pop("ended")}
    _send(task, "task-revoked", **revoked, **shown)
    # For Flower, which ranks REVOKED below every custom state and would go on showing IN_QUEUE.
    _send(task, "task-cancelled", name=f"{RUN}[{job.name}]", reason=reason)


def _send(task: Any, kind: str, **fields: Any) -> None:
    try:
        task.send_event(kind, retry=False, **fields)
    except (RedisError, *NOT_PUBLISHED) as problem:
        log.warning("state.not_shown", extra={"task_id": task.request.id, "state": kind, "error": str(problem)})


def _line(*parts: str) -> str | None:
    return ", ".join(filter(None, parts)) or None


def _which_job(job: JobRecord) -> list[str]:
    return [f"job {job.job_id}" if job.job_id else "", f"attempt {job.attempt}" if job.attempt > 1 else ""]
