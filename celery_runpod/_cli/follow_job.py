"""Follows a job from a terminal, for `run` and `watch`: a live line while it is open, then its output or its error.

Progress goes to standard error, so that standard output holds the output alone. The job does not depend on being
followed: if Redis stays away for too long, the command ends and names the command that finds the job again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from celery import states
from redis.exceptions import RedisError
from rich.console import Console
from rich.text import Text

from celery_runpod._cli import store_for_commands
from celery_runpod._cli.output import echo
from celery_runpod._escaping import shown, shown_block, shown_json
from celery_runpod._live import job_rows
from celery_runpod._store.store import JobStore
from celery_runpod.results import JobResult

LOOK_S = 0.5
PATIENCE_S = 30.0
"""How long, in seconds, a Redis that does not answer is asked again: a restart or a failover is over by then."""

clock = time.monotonic


def pause() -> None:
    """Wait between two looks at a job."""
    time.sleep(LOOK_S)


def follow(job: JobResult, started: float) -> str | None:
    """Show state, reason and seconds until the job has ended: one live line, or a line for each change.

    Returns the verdict of a job whose result is not kept; None where there is a result, which `job` then has.

    Raises:
        ClickException: Redis has not answered for `PATIENCE_S`; the job goes on.
    """
    echo(f"task {job.id}", err=True)
    reader = store_for_commands.open_store()
    answered_at = clock()
    with _line(started) as show:
        while True:
            try:
                if job.ready():
                    return None
                if verdict := _verdict_without_result(job, reader):
                    return verdict
                standing = _standing(job)
                answered_at = clock()
            except (RedisError, OSError) as error:
                if clock() - answered_at > PATIENCE_S:
                    reason = str(error) or type(error).__name__
                    break
                standing = "Redis does not answer; it is asked again"
            show(standing)
            pause()
    raise click.ClickException(
        f"Redis cannot be reached ({shown(reason)}); the job goes on: celery-runpod show {job.id}"
    )


@contextmanager
def _line(started: float) -> Iterator[Callable[[str], None]]:
    """A function that shows how the job stands."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            # A Text: what handlers say of their progress may look like rich's markup.
            yield lambda standing: status.update(Text(shown(f"{standing}  {clock() - started:.0f} s")))
        return
    last = ""

    def show(standing: str) -> None:
        nonlocal last
        if standing != last:
            echo(f"{standing}  {clock() - started:.0f} s", err=True)
            last = standing

    yield show


def _verdict_without_result(job: JobResult, reader: JobStore) -> str | None:
    """The verdict of a job that has ended and left no result: `ignore_result`, or a result that was forgotten."""
    endpoint = reader.ids.endpoint_of(job.id)
    row = job_rows.rows_of(reader, endpoint, [job.id])[0] if endpoint else None
    # The result is stored before the record says DELIVERED, so `job.state` is read after the record.
    return row.verdict if row and row.state == "DELIVERED" and job.state == states.PENDING else None


def _standing(job: JobResult) -> str:
    reason, progress = job.reason, job.progress
    words = [job.state]
    if reason:
        words.append(f"({reason}: {job_rows.REASONS[reason]})" if reason in job_rows.REASONS else f"({reason})")
    if progress is not None:
        words.append(str(progress))
    return " ".join(words)


def report(job: JobResult, started: float, verdict: str | None, *, as_json: bool) -> None:
    """Print how the job ended, as `follow` found it; exit status 1 if it did not succeed."""
    answer: dict[str, Any]
    if verdict is not None:
        failed, text = verdict != "COMPLETED", f"ended as {verdict}; its result is not kept"
        answer = {"state": verdict, "why": text}
    else:
        output = job.get(propagate=False)
        failed = job.failed() or isinstance(output, BaseException)
        if failed:
            text = shown_block(f"{type(output).__name__}: {output}")
            answer = {"state": job.state, "error": {"type": type(output).__name__, "message": str(output)}}
        else:
            # Celery's JSON brings back dates, UUIDs and decimals, which JSON itself does not know.
            text = shown_json(output)
            answer = {"state": job.state, "output": output}
    if as_json:
        seconds = round(clock() - started, 1)
        click.echo(json.dumps({"task_id": job.id, "seconds": seconds, **answer}, indent=2, default=str))
    else:
        click.echo(text, err=failed or verdict is not None)
    if failed:
        sys.exit(1)
