"""Following a job from a terminal: a live line while it is open, then its output or its error. `run` and `watch`.

Progress goes to standard error, so that standard output holds the output alone.

Next: ``jobs.py``.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click
from rich.console import Console

from celery_runpod.cli.rows import REASONS
from celery_runpod.results import JobResult

LOOK_S = 0.5
INTERRUPTED = 130


def pause() -> None:
    """Between two looks at a job."""
    time.sleep(LOOK_S)


def follow(job: JobResult, started: float) -> None:
    """Show state, reason and seconds until the job has ended: one live line, or a line for each change."""
    console = Console(stderr=True)
    click.echo(f"task {job.id}", err=True)
    if console.is_terminal:
        with console.status("") as status:
            while not job.ready():
                status.update(f"{_standing(job)}  {time.monotonic() - started:.0f} s")
                pause()
        return
    last = ""
    while not job.ready():
        if (standing := _standing(job)) != last:
            click.echo(f"{standing}  {time.monotonic() - started:.0f} s", err=True)
            last = standing
        pause()


def _standing(job: JobResult) -> str:
    reason, progress = job.reason, job.progress
    words = [job.state]
    if reason:
        words.append(f"({reason}: {REASONS[reason]})" if reason in REASONS else f"({reason})")
    if progress is not None:
        words.append(str(progress))
    return " ".join(words)


def report(job: JobResult, started: float, *, as_json: bool) -> None:
    """Print how the job ended; exit status 1 if it did not succeed."""
    output = job.get(propagate=False)
    failed = job.failed() or isinstance(output, BaseException)
    if as_json:
        seconds = round(time.monotonic() - started, 1)
        answer: dict[str, Any] = {"task_id": job.id, "state": job.state, "seconds": seconds}
        if failed:
            answer["error"] = {"type": type(output).__name__, "message": str(output)}
        else:
            answer["output"] = output
        click.echo(json.dumps(answer, indent=2))
    elif failed:
        click.echo(f"{type(output).__name__}: {output}", err=True)
    else:
        click.echo(json.dumps(output, indent=2, ensure_ascii=False))
    if failed:
        sys.exit(1)
