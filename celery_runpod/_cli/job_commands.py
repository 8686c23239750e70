"""`jobs`, `show`, `run`, `cancel`: what a client may see and do, from a terminal.

They need the store and the broker (`REDIS_URL` and its like), but neither the worker's settings nor an API key. Not
here: what is read of a record (`celery_runpod/_live/job_rows.py`).
"""

from __future__ import annotations

import sys
import time
from datetime import datetime

import click
from celery import Celery

from celery_runpod._cli import aside_command
from celery_runpod._cli.follow_job import follow, report
from celery_runpod._cli.output import INTERRUPTED, Columns, echo, json_option, print_json, print_rows, read_json
from celery_runpod._cli.store_for_commands import ANSWER_S, CONNECT_S, on_hold, store_or_sentence
from celery_runpod._connect import celery_urls, client_settings, is_amqp
from celery_runpod._live.job_rows import REASONS, Row, open_rows, rows_of
from celery_runpod._publish.rabbitmq import ForeignAMQP
from celery_runpod.endpoint import Endpoint
from celery_runpod.results import JobResult
from celery_runpod.results import cancel as cancel_tree


def now() -> float:
    return time.time()


def client() -> Celery:
    """A Celery app on the broker and result backend of the environment."""
    settings = client_settings()
    # A record that is dropped has errbacks, and an end, for queues of the user's app.
    amqp = ForeignAMQP if is_amqp(settings.broker_url) else None
    app = Celery("celery_runpod_cli", amqp=amqp, set_as_current=False)
    app.conf.update(celery_urls(settings.broker_url, settings.result_backend))
    # By default Celery waits for two minutes for an answer of Redis.
    app.conf.update(redis_socket_connect_timeout=CONNECT_S, redis_socket_timeout=ANSWER_S)
    return app


@click.command()
@click.option("--endpoint", metavar="E", help="Only jobs of this endpoint: its name, or RunPod's id.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="The most that are listed.")
@click.option("--aside", is_flag=True, help="What no worker could run or read.")
@click.option("--release", "released", metavar="ID", help="Of --aside: send the message, or work on the record, again.")
@click.option("--drop", "dropped", metavar="ID", help="Of --aside: remove it; a record's task ends with an error.")
@json_option
def jobs(
    endpoint: str | None, limit: int, aside: bool, released: str | None, dropped: str | None, as_json: bool
) -> None:
    """List the open jobs, the soonest to be looked at first; or, with --aside, what no worker could run or read."""
    if released:
        aside_command.release(released, client())
    if dropped:
        aside_command.drop(dropped, client())
    if aside and not (released or dropped):
        aside_command.list_aside(as_json=as_json)
    if aside or released or dropped:
        return
    with store_or_sentence() as reader:
        rows, left_out = open_rows(reader, endpoint, limit)
        worker_up = reader.workers.worker_up(now())
        holds = reader.holds.by_endpoint()
    none = "no open job" + (f" of endpoint {endpoint}" if endpoint else "")
    print_rows([row.to_json(now()) for row in rows], COLUMNS, as_json=as_json, none=none)
    if as_json:
        return
    for paused, since in sorted(holds.items()):
        echo(on_hold(paused, since), err=True)
    if left_out:
        echo(f"{left_out} more are not shown: use --endpoint or --limit", err=True)
    if not worker_up:
        echo(REASONS["NO_WORKER"], err=True)


COLUMNS: Columns = {
    "task id": lambda row: row["task_id"],
    "endpoint": lambda row: row["name"],
    "state": lambda row: row["state"],
    "attempt": lambda row: row["attempt"],
    "RunPod id": lambda row: row["job_id"],
    "checks": lambda row: row["checks"],
    "next check in s": lambda row: row["next_in_s"],
    "reason": lambda row: row["reason"],
}


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def show(task_id: str, as_json: bool) -> None:
    """Show how a job stands: checks made, when the next one is, and why."""
    with store_or_sentence() as reader:
        published_at = reader.outbox.published_at(task_id)  # before the record: in between a worker may accept it
        place = reader.ids.place(task_id)
        found = rows_of(reader, place.endpoint, [task_id])[0] if place and place.endpoint else None
        members = reader.ids.members(task_id)
        worker_up = reader.workers.worker_up(now())
        kept = found is not None and bool(reader.redis.exists(reader.keys.failed(found.endpoint, task_id)))
    if found is None:
        if published_at is not None:
            problem = f"published {max(0.0, now() - published_at):.0f} s ago, no worker has accepted it yet"
            problem += "" if worker_up else f"; {REASONS['NO_WORKER']}"
        elif place is not None and place.endpoint is None:
            problem = f"a step under {place.root} that is no job of RunPod's (yet)"
        elif members:
            problem = f"a root or group of {len(members)} open jobs: {', '.join(sorted(members)[:20])}"
        else:
            problem = "unknown: not accepted yet" + ("" if worker_up else " (no RunPod worker is up)")
            problem += ", ended so long ago that its tombstone is gone, or never a job of this namespace"
        if as_json:
            print_json({"task_id": task_id, "state": None, "why": problem})
        else:
            echo(f"{task_id}: {problem}", err=published_at is None)
        sys.exit(0 if published_at is not None else 1)
    if as_json:
        print_json({**found.to_json(now()), "worker_up": worker_up, "kept": kept})
        return
    lines = _lines(found, worker_up)
    if kept:
        lines.append(("input", f"kept: celery-runpod retry {task_id}"))
    for name, value in lines:
        echo(f"{name:<14}{value}")


def _lines(row: Row, worker_up: bool) -> list[tuple[str, str]]:
    endpoint = row.name if row.name == row.endpoint else f"{row.name} (RunPod's id {row.endpoint})"
    lines = [("task id", row.task_id), ("endpoint", endpoint), ("state", row.state)]
    if row.verdict:
        lines.append(("ended as", row.verdict))
    lines += [("attempt", str(row.attempt)), ("RunPod id", row.job_id or "none yet")]
    lines.append(("checks made", "not kept after delivery" if row.checks is None else str(row.checks)))
    if row.state == "DELIVERED":
        lines.append(("next check", "none: " + row.why()))
    else:
        in_s = row.next_in_s(now())
        at = "none" if row.next_at is None else f"{_local(row.next_at)}, in {in_s:.1f} s"
        lines += [("next check", at), ("why", row.why() if worker_up or row.reason else _no_worker(row))]
    for name, value in (("accepted", row.accepted_at), ("submitted", row.submitted_at), ("ended", row.ended_at)):
        if value is not None:
            lines.append((name, _local(value)))
    if row.end_by is not None:
        lines.append(("deadline", _local(row.end_by)))
    if row.labels:
        lines.append(("labels", ", ".join(row.labels)))
    if row.progress:
        lines.append(("progress", row.progress))
    if row.delay_s is not None:
        lines.append(("in queue", f"{row.delay_s:g} s"))
    if row.execution_s is not None:
        lines.append(("on a GPU", f"{row.execution_s:g} s"))
    return lines


def _no_worker(row: Row) -> str:
    return f"{row.why()}; but {REASONS['NO_WORKER']}"


def _local(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")


@click.command()
@click.argument("endpoint")
@click.option("--input", "given", metavar="JSON|@FILE", default="{}", help="The input, or @ and a file that holds it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def run(endpoint: str, given: str, as_json: bool) -> None:
    """Run one job and wait for it. Progress goes to standard error, the output to standard output."""
    job = Endpoint(endpoint, app=client()).delay(read_json(given, "--input"))
    started = time.monotonic()
    try:
        verdict = follow(job, started)
    except KeyboardInterrupt:
        _interrupted(job)
        sys.exit(INTERRUPTED)
    report(job, started, verdict, as_json=as_json)


def _interrupted(job: JobResult) -> None:
    try:
        wanted = click.confirm("\nCancel the job?", default=False, err=True)
    except (click.Abort, KeyboardInterrupt):
        wanted = False
    if wanted:
        job.cancel()
        echo(f"cancel asked for; see celery-runpod show {job.id}", err=True)
    else:
        echo(f"the job goes on; see celery-runpod show {job.id}", err=True)


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--all", "everything", is_flag=True, help="Everything under the same root: the whole chain, group or chord."
)
@json_option
def cancel(ids: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Cancel a job, at RunPod too; or all jobs of a group, a chord, or a chain's later step."""
    app = client()
    for any_id in ids:
        if everything:
            cancel_tree(any_id, app=app)
        else:
            JobResult(any_id, app=app).cancel()
        if not as_json:
            echo(f"cancel asked for: {any_id}")
    if as_json:
        print_json({"cancel_asked": list(ids), "all": everything})
