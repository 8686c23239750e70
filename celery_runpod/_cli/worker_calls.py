"""`watch`, `retry`, `health`, `purge`, `pause`, `resume`: a job to its end, and an endpoint by its workers.

They need the broker and the store (`REDIS_URL` and its like), and no API key: a worker calls RunPod.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from celery import states

from celery_runpod import _asking
from celery_runpod._asking import DEFAULT_TIMEOUT_S, ask, health_from
from celery_runpod._asking import retry as ask_for_retry
from celery_runpod._cancelling import publish_cancel
from celery_runpod._cli.follow_job import follow, report
from celery_runpod._cli.job_commands import client
from celery_runpod._cli.output import INTERRUPTED, ask_first, echo, json_option, print_one, say, yes_option
from celery_runpod._cli.store_for_commands import on_hold, store_or_sentence
from celery_runpod._protocol import HEALTH
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
endpoint_argument = click.argument("endpoint", required=False)
all_option = click.option("--all", "every", is_flag=True, help="Every endpoint.")
key_option = click.option("--key-name", metavar="NAME", help="Which of the worker's API keys to use.")


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def watch(task_id: str, as_json: bool) -> None:
    """Watch a job until it ends: a live line, then its output. Ctrl-C ends the watching, not the job."""
    job = JobResult(task_id, app=client())
    with store_or_sentence() as reader:
        published = reader.outbox.published_at(task_id) is not None
        known = published or reader.ids.place(task_id) is not None or job.state != states.PENDING
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
@click.option("--force", is_flag=True, help="Also if it was run again by hand too often (RUNPOD_MOST_RETRIES_BY_HAND).")
@timeout_option
@json_option
def retry(task_id: str, force: bool, timeout: float, as_json: bool) -> None:
    """Run a job that failed again, under a new id, with the chain and links that hung on it."""
    job = ask_for_retry(task_id, force=force, timeout=timeout, app=client())
    say(f"runs again as task {job.id}", {"task_id": task_id, "retried_as": job.id}, as_json=as_json)


@click.command()
@click.argument("endpoint")
@key_option
@timeout_option
@json_option
def health(endpoint: str, key_name: str | None, timeout: float, as_json: bool) -> None:
    """How many jobs and workers an endpoint has at RunPod."""
    counts = ask(HEALTH, (endpoint, key_name), timeout=timeout, app=client(), endpoint=endpoint)
    print_one(health_from(counts), as_json=as_json)
    if since := counts.get("on_hold_since"):
        echo(on_hold(endpoint, since), err=True)


@click.command()
@endpoint_argument
@all_option
@timeout_option
@json_option
def pause(endpoint: str | None, every: bool, timeout: float, as_json: bool) -> None:
    """Submit nothing to an endpoint, or to any, until `resume`. Looks and deliveries go on, and workers stay up."""
    one = _one_or_all(endpoint, every)
    _asking.pause(one, timeout=timeout, app=client())
    text = f"nothing is submitted to {one or 'any endpoint'}; calls wait with the reason ON_HOLD"
    say(text, {"endpoint": one, "on_hold": True}, as_json=as_json)


@click.command()
@endpoint_argument
@all_option
@timeout_option
@json_option
def resume(endpoint: str | None, every: bool, timeout: float, as_json: bool) -> None:
    """Submit again to an endpoint, or take back the pause of all; what waited is submitted at once."""
    one = _one_or_all(endpoint, every)
    free = _asking.resume(one, timeout=timeout, app=client())
    text = "jobs are submitted again" if free else "taken back; another pause still holds jobs: see celery-runpod jobs"
    say(text, {"endpoint": one, "on_hold": not free}, as_json=as_json)


def _one_or_all(endpoint: str | None, every: bool) -> str | None:
    if every is (endpoint is not None):
        raise click.UsageError("give either an ENDPOINT or --all")
    return endpoint


@click.command()
@click.argument("endpoint", required=False)
@click.option("--calls", is_flag=True, help="Cancel the calls that no worker has taken yet, instead.")
@key_option
@timeout_option
@yes_option
@json_option
def purge(endpoint: str | None, calls: bool, key_name: str | None, timeout: float, yes: bool, as_json: bool) -> None:
    """Remove every job that waits in an endpoint's queue at RunPod, whoever submitted it. Running jobs go on.

    With --calls: cancel the calls, of ENDPOINT or of all, that wait in the broker for a RunPod worker. Celery's own
    purge does not: the workers publish a message that is missing again.
    """
    if calls:
        _cancel_calls(endpoint, yes, as_json=as_json)
        return
    if endpoint is None:
        raise click.UsageError("give an ENDPOINT, or --calls")
    asked = _endpoint(endpoint, key_name)
    if not yes:
        queued = asked.health(timeout=timeout).in_queue
        ask_first(f"Remove all jobs from the queue of {endpoint} ({queued} now)?", yes)
    removed = asked.purge_queue(timeout=timeout)
    data = {"endpoint": endpoint, "removed": removed}
    say(f"{removed} jobs removed; ours among them end with JobPurged", data, as_json=as_json)


def _cancel_calls(endpoint: str | None, yes: bool, *, as_json: bool) -> None:
    with store_or_sentence() as reader:
        ids = reader.outbox.calls(endpoint)
    of = f" of {endpoint}" if endpoint else ""
    if ids and not yes:
        ask_first(f"Cancel {len(ids)} calls{of} that no worker has taken yet?", yes)
    if ids:
        publish_cancel(client(), list(ids), scope="step")
    data = {"endpoint": endpoint, "cancelled": len(ids)}
    say(f"{len(ids)} calls cancelled; each ends as REVOKED when a worker takes it", data, as_json=as_json)


def _endpoint(name: str, key_name: str | None) -> Any:
    endpoint = Endpoint(name, app=client())
    return endpoint.using(api_key_name=key_name) if key_name else endpoint
