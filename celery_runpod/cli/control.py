"""`watch`, `retry`, `health`, `purge`: a job to its end, and what the workers are asked about an endpoint.

They need the broker and the store (`REDIS_URL` and its like), and no API key: a worker calls RunPod.

Next: ``pods.py``, which needs the key.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from celery import states

from celery_runpod.cli.following import INTERRUPTED, follow, report
from celery_runpod.cli.jobs import client
from celery_runpod.cli.output import ask_first, echo, json_option, print_one, say, yes_option
from celery_runpod.cli.rows import store_or_sentence
from celery_runpod.control import DEFAULT_TIMEOUT_S
from celery_runpod.control import retry as ask_for_retry
from celery_runpod.endpoint import Endpoint
from celery_runpod.results import JobResult

timeout_option = click.option(
    "--timeout",
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="How long to wait for a worker's answer.",
)
key_option = click.option("--key-name", metavar="NAME", help="Which of the worker's API keys to use.")


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def watch(task_id: str, as_json: bool) -> None:
    """Watch a job until it ends: a live line, then its output. Ctrl-C ends the watching, not the job."""
    job = JobResult(task_id, app=client())
    with store_or_sentence() as reader:
        published = reader.published_at(task_id) is not None
        known = published or reader.place(task_id) is not None or job.state != states.PENDING
    if not known:
        raise click.ClickException(f"{task_id}: no job of this namespace, or it ended so long ago that nothing is left")
    started = time.monotonic()
    try:
        verdict = follow(job, started)
    except KeyboardInterrupt:
        click.echo(err=True)
        echo(f"the job goes on; see celery-runpod show {task_id}", err=True)
        sys.exit(INTERRUPTED)
    report(job, started, verdict, as_json=as_json)


@click.command()
@click.argument("task_id", metavar="ID")
@timeout_option
@json_option
def retry(task_id: str, timeout: float, as_json: bool) -> None:
    """Run a job that failed again, under a new id, with the chain and links that hung on it."""
    job = ask_for_retry(task_id, timeout_s=timeout, app=client())
    say(f"runs again as task {job.id}", {"task_id": task_id, "retried_as": job.id}, as_json=as_json)


@click.command()
@click.argument("endpoint")
@key_option
@timeout_option
@json_option
def health(endpoint: str, key_name: str | None, timeout: float, as_json: bool) -> None:
    """How many jobs and workers an endpoint has at RunPod."""
    print_one(_endpoint(endpoint, key_name).health(timeout=timeout), as_json=as_json)


@click.command()
@click.argument("endpoint")
@key_option
@timeout_option
@yes_option
@json_option
def purge(endpoint: str, key_name: str | None, timeout: float, yes: bool, as_json: bool) -> None:
    """Remove every job that waits in an endpoint's queue at RunPod, whoever submitted it. Running jobs go on."""
    asked = _endpoint(endpoint, key_name)
    if not yes:
        queued = asked.health(timeout=timeout).in_queue
        ask_first(f"Remove all jobs from the queue of {endpoint} ({queued} now)?", yes)
    removed = asked.purge_queue(timeout=timeout)
    told = {"endpoint": endpoint, "removed": removed}
    say(f"{removed} jobs removed; ours among them end with JobPurged", told, as_json=as_json)


def _endpoint(name: str, key_name: str | None) -> Any:
    endpoint = Endpoint(name, app=client())
    return endpoint.using(api_key_name=key_name) if key_name else endpoint
