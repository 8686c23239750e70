"""`jobs --aside`: lists the messages and records that no worker could run or read, sends them again, or removes them.

Not here: how they were put aside (`celery_runpod/_store/put_aside.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import click
from celery import Celery, states
from celery.app.task import Context
from kombu.connection import Connection

from celery_runpod._cli.output import Columns, echo, print_rows
from celery_runpod._cli.store_for_commands import store_or_sentence
from celery_runpod._escaping import shown
from celery_runpod._protocol import RUN
from celery_runpod._publish.job_ends import End, publish_end, publish_ends_after, queue_asked
from celery_runpod._publish.routes import never_begin
from celery_runpod.errors import JobUndeliverable

COLUMNS: Columns = {
    "id": lambda row: row["id"],
    "kind": lambda row: row["kind"],
    "task": lambda row: row["task"],
    "endpoint": lambda row: row["endpoint"],
    "since": lambda row: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row["since"])),
    "bytes": lambda row: row["bytes"],
    "why": lambda row: row["why"],
}


def list_aside(*, as_json: bool) -> None:
    """Print what was put aside, the oldest first."""
    with store_or_sentence() as store:
        rows = sorted(_rows(store), key=lambda row: float(row["since"]))
    print_rows(rows, COLUMNS, as_json=as_json, none="nothing was put aside")


def release(entry: str, app: Celery) -> None:
    """Publish a message again, or make a record due again."""
    with store_or_sentence() as store:
        if record := _record(store, entry):
            done = store.aside.take_record_back(record.endpoint, record.task_id, time.time())
        else:
            message = _message(store, entry)
            if not message.readable or not message.whole:
                why = "it is no message that a worker can read" if not message.readable else "only its head was kept"
                raise click.ClickException(f"{shown(entry)} cannot be released: {why}; --drop removes it")
            with app.connection_for_write() as connection:
                _publish(connection, message)
            done = store.aside.take_message(message.id)
    echo(f"released: {entry}" if done else f"{entry} is not put aside any more")


def drop(entry: str, app: Celery) -> None:
    """Remove a message; end a record's task with an error, and cancel its job at RunPod."""
    with store_or_sentence() as store:
        if record := _record(store, entry):
            # Removed first: a worker that can read it now would go on with it.
            done = store.aside.drop_record(record.endpoint, record.task_id, time.time())
            if done:
                _end(app, record)
        else:
            done = store.aside.take_message(_message(store, entry).id)
    echo(f"dropped: {entry}" if done else f"{entry} is not put aside any more")


def _rows(store: Any) -> Iterator[dict[str, Any]]:
    for one in store.aside.messages_aside():
        row = {"id": one.id, "kind": "message", "task": one.name, "endpoint": one.endpoint}
        yield {**row, "since": one.since, "bytes": one.size, "why": one.why}
    for one in store.aside.records_aside():
        row = {"id": f"record-{one.task_id}", "kind": "record", "task": RUN}
        yield {**row, "endpoint": one.endpoint, "since": one.since, "bytes": one.size, "why": one.why}


def _record(store: Any, entry: str) -> Any:
    return next((one for one in store.aside.records_aside() if entry in (one.task_id, f"record-{one.task_id}")), None)


def _message(store: Any, entry: str) -> Any:
    found = next((one for one in store.aside.messages_aside() if one.id in (entry, f"message-{entry}")), None)
    if found is None:
        raise click.ClickException(f"{shown(entry)} is not put aside; see celery-runpod jobs --aside")
    return found


def _publish(connection: Connection, message: Any) -> None:
    connection.Producer().publish(
        message.body.encode(),
        routing_key=message.queue,
        exchange="",
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=message.headers,
        **{name: value for name, value in message.properties.items() if value is not None},
    )


def _end(app: Celery, record: Any) -> None:
    """End the caller's task with an error, and the rest of its flow as far as the record can be read; then publish that
    end, as every other one, to the caller's own worker, if that asked for it."""
    job_id = record.fields.get("job_id") or None
    error = JobUndeliverable("its record could not be read, and was dropped by hand", None, record.task_id, job_id)
    signature = _continuation(record)
    options = signature["options"]
    request = Context(
        id=record.task_id,
        task=RUN,
        root_id=record.fields.get("root_id") or record.task_id,
        group=options.get("group_id"),
        group_index=options.get("group_index"),
        chord=options.get("chord"),
        chain=options.get("chain"),
        errbacks=options.get("link_error"),
    )
    stored = record.fields.get("ignore_result") != "1"
    app.backend.mark_as_failure(record.task_id, error, request=request, store_result=stored)
    name = record.fields.get("name") or record.endpoint
    try:
        if queue := queue_asked(signature):
            publish_end(app, queue, record.task_id, name, End(states.FAILURE, error=error))
        publish_ends_after(app, never_begin(signature), error, states.FAILURE)
    except Exception as problem:
        # The broker is away, or what the damaged record holds is of no form that can be told. The task has its end.
        echo(f"the job_ended of task {record.task_id} was not published: {problem}", err=True)


def _continuation(record: Any) -> dict[str, Any]:
    """The signature that ends the task; one without options where the record's cannot be read."""
    try:
        signature = json.loads(record.fields["continuation"])
        if isinstance(signature["options"], dict):
            return dict(signature)
    except (KeyError, ValueError, TypeError, RecursionError):
        pass
    return {"options": {}}
