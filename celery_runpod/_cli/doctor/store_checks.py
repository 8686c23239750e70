"""The checks of `doctor` on what the store holds: workers, calls that wait, bounds, its owner, the keys that jobs need.

A job keeps the name of its API key, never the key. Without the key an open job can be neither fetched nor cancelled, so
a name that open jobs use and this environment lacks is reported. These checks read only.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from celery_runpod._cli.doctor.findings import CHECK_S, Finding, ok, warning, within, wrong
from celery_runpod._cli.doctor.server_checks import TROUBLE, unreachable
from celery_runpod._cli.store_for_commands import on_hold
from celery_runpod._connect import COMMAND, connect, mask_url
from celery_runpod._publish.open_job_bounds import MOST_INPUT_BYTES, MOST_OPEN_JOBS
from celery_runpod._store.open_jobs import Totals
from celery_runpod._store.start_checks import owner_of, problems_of_owner
from celery_runpod._store.store import JobStore
from celery_runpod._store.store_part import BATCH
from celery_runpod.errors import ConfigurationError

if TYPE_CHECKING:
    from config.settings import Settings

NEARLY_FULL = 0.8
LATE_S = 30.0
"""A call that no worker has accepted for this long: there are too few workers, or a queue was purged."""


def check_store(settings: Settings) -> list[Finding]:
    """The namespace: its workers, calls, pauses and bounds, and which installation began it."""
    reader = JobStore(connect(settings.store_url, COMMAND), settings.namespace)

    def read() -> tuple[list[str], str | None, tuple[int, int], dict[str, float], Totals | None, int]:
        now = time.time()
        workers: Any = reader.redis.zrangebyscore(reader.keys.workers(), now, "+inf")
        identity: Any = reader.redis.get(reader.keys.identity())
        late = reader.outbox.count_calls(now - LATE_S)
        return (
            list(workers),
            identity,
            reader.aside.count_aside(),
            reader.holds.by_endpoint(),
            reader.open_jobs.totals(),
            late,
        )

    try:
        workers, identity, (messages, records), holds, totals, late = within(CHECK_S, read)
    except TROUBLE as error:
        return [unreachable("namespace", mask_url(settings.store_url), error)]
    found = []
    if workers:
        found.append(ok("workers", f"{len(workers)} up: {', '.join(sorted(workers)[:10])}"))
    else:
        found.append(warning("workers", "no RunPod worker is up", "start one: celery-runpod worker"))
    if late:
        advice = "start more workers; a purged queue comes back, so cancel its calls: celery-runpod purge --calls"
        found.append(warning("calls", f"{late} calls wait for a worker for over {LATE_S:g} s", advice))
    if messages or records:
        problem = f"{messages} messages and {records} records were put aside: no worker could run or read them"
        found.append(warning("put aside", problem, "look: celery-runpod jobs --aside; then --release ID or --drop ID"))
    found += [warning("submits", on_hold(endpoint, since)) for endpoint, since in sorted(holds.items())]
    found += _bounds(totals)
    mine = owner_of(settings.broker_url, settings.result_backend)
    problems = problems_of_owner(settings.namespace, mine, identity) if identity else []
    advice = f"choose another RUNPOD_NAMESPACE, or delete the key {reader.keys.identity()} once no job is open"
    found += [wrong("namespace", problem, advice) for problem in problems]
    if not problems:
        words = "belongs to this broker and result backend" if identity else "not begun yet"
        found.append(ok("namespace", f"{settings.namespace!r} {words}"))
    return found


def _bounds(totals: Totals | None) -> list[Finding]:
    """How much the namespace holds of what it may hold."""
    if totals is None:
        return []
    found = []
    for what, given, most, setting in (
        ("open jobs", totals.jobs, totals.most_jobs, MOST_OPEN_JOBS),
        ("bytes of input", totals.input_bytes, totals.most_input_bytes, MOST_INPUT_BYTES),
    ):
        words = f"{given} {what} of {most} ({setting})"
        if given >= NEARLY_FULL * most:
            advice = "at the bound every call raises TooManyOpenJobs: let jobs end, or raise it if Redis has the memory"
            found.append(warning("bounds", words, advice))
        else:
            found.append(ok("bounds", words))
    return found


def check_keys(settings: Settings) -> list[Finding]:
    """Each name of a key that an open job, or an unconfirmed cancel, needs."""
    reader = JobStore(connect(settings.store_url, COMMAND), settings.namespace)
    try:
        used = within(CHECK_S, lambda: Counter(_names(reader)))
    except TROUBLE:
        return []  # another check reports a store in trouble
    found = []
    for name, number in sorted(used.items()):
        shown = f"API key {name!r}" if name else "API key"
        jobs = f"{number} open jobs or cancels need it"
        try:
            if not settings.key(name or None):
                raise ConfigurationError("it is empty")
        except ConfigurationError as error:
            advice = "set it again, until these jobs have ended: without it they can be neither fetched nor cancelled"
            found.append(wrong(shown, f"{jobs}; {error}", advice))
        else:
            found.append(ok(shown, jobs))
    return found


def _names(reader: JobStore) -> Iterator[str]:
    keys = reader.keys
    for endpoint in reader.endpoints.all():
        cancels: Any = reader.redis.hscan_iter(keys.cancel_keys(endpoint), count=BATCH)
        yield from (name or "" for _, name in cancels)
        yield from (name or "" for _, name in reader.field_of_open(endpoint, "api_key_name"))
