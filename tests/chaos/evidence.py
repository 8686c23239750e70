"""What can be known after a run, gathered once: results, the simulator's jobs, the marks of the user's tasks, logs.

Not here: what it means (``verifier.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from celery.exceptions import TaskRevokedError
from celery.states import READY_STATES

from celery_runpod import JobResult
from celery_runpod._store.store import JobStore
from celery_runpod.errors import RunPodError
from tests.chaos.application import RAN
from tests.servers import World

READ_S = 10.0
"""Bounds a reader of a stream whose job has ended."""


@dataclass(frozen=True)
class End:
    """How a task ended: Celery's state, and its result or error."""

    state: str
    result: Any


@dataclass(frozen=True)
class Streamed:
    """What a reader gets who comes after the end: each entry's event and output, and the name of the error at the end."""

    entries: tuple[tuple[str, Any], ...]
    error: str = ""


@dataclass(frozen=True)
class Evidence:
    """`ends` by task id, without those that have none; `submits` are the simulator's jobs by mark; `ran` is how often
    a task of the user ran; `unanswered` says by mark why the last submit of a job may have got no answer, where a kill
    or a fault explains that (``submits.py``); `deserters` are workers that ended though nobody killed them; `streams` by
    task id."""

    ends: Mapping[str, End]
    submits: Mapping[str, list[dict[str, Any]]]
    ran: Mapping[str, int]
    left: list[str]
    unanswered: Mapping[str, str]
    cancelled: frozenset[str]
    deserters: list[str]
    streams: Mapping[str, Streamed]


def ends_of(world: World, ids: Iterable[str]) -> dict[str, End]:
    """The ends of those tasks that have one."""
    backend = world.app().backend
    found = {}
    for some in _batches(ids):
        for task_id, raw in zip(
            some, backend.client.mget([backend.get_key_for_task(one) for one in some]), strict=True
        ):
            meta = backend.meta_from_decoded(backend.decode_result(raw)) if raw else None
            if meta and meta["status"] in READY_STATES:
                found[task_id] = End(meta["status"], meta["result"])
    return found


def streams_of(world: World, ids: Iterable[str]) -> dict[str, Streamed]:
    """What is read of each stream. A stream that does not end is one with a ResultTimeout."""
    found = {}
    for task_id in ids:
        entries: list[tuple[str, Any]] = []
        try:
            entries += ((one.event, one.output) for one in JobResult(task_id, app=world.app()).stream(timeout=READ_S))
        except (RunPodError, TaskRevokedError) as error:
            found[task_id] = Streamed(tuple(entries), type(error).__name__)
        else:
            found[task_id] = Streamed(tuple(entries))
    return found


def submits_by_mark(world: World, apart: frozenset[str] = frozenset()) -> dict[str, list[dict[str, Any]]]:
    """The simulator's jobs, without those of the endpoints that are `apart`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for job in world.jobs():
        if job["endpoint"] in apart:
            continue
        # What has no mark is nobody's, and is found as that.
        found.setdefault(job["input"].get("mark", job["id"]), []).append(job)
    return found


def runs_of(world: World) -> dict[str, int]:
    """How often each task of the user ran."""
    found = {}
    for keys in _batches(world.redis.scan_iter(f"{RAN}*", count=1000)):
        with world.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.llen(key)
            found.update({key.removeprefix(RAN): count for key, count in zip(keys, pipe.execute(), strict=True)})
    return found


def story_of(world: World, task_id: str, submits: Iterable[dict[str, Any]], most: int = 40) -> str:
    """All that is known of one id, to be read by a person: record, simulator's jobs, log lines. Of a worker's name: the
    last lines of its log."""
    own_log = world.stack.folder / f"{task_id}.log"
    if own_log.exists():
        return "\n".join(f"    {line}" for line in own_log.read_text(errors="replace").splitlines()[-most:])
    record = JobStore(world.redis, world.namespace).ids.job(task_id)
    about = [line for line in _lines(world.stack.folder) if task_id in line]
    lines = [f"    record: {record}", *(f"    at the simulator: {job}" for job in submits)]
    lines += [f"    {line[:400]}" for line in sorted(about)[:most]]
    return "\n".join(lines)


def _lines(folder: Path) -> Iterator[str]:
    for log in sorted(folder.glob("*.log")):
        with log.open(errors="replace") as lines:
            for line in lines:
                yield f"{line.rstrip()}  [{log.stem}]"


def _batches(items: Iterable[str], size: int = 500) -> Iterator[list[str]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
