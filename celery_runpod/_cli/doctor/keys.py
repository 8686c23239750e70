"""The check of `doctor` on API keys: which names the open jobs use, and whether this environment has each of them.

A job keeps the name of its key, never the key. Who takes a name away while jobs of it are open can neither fetch nor
cancel them: so it is told before. Reads names alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from celery_runpod._cli.doctor import places
from celery_runpod._cli.doctor.findings import Finding, TookTooLong, ok, within, wrong
from celery_runpod._connect import COMMAND, connect
from celery_runpod._store.store import JobStore
from celery_runpod.errors import ConfigurationError

if TYPE_CHECKING:
    from config.settings import Settings

LOOK_S = 10.0
BATCH = 1000


def check_keys(settings: Settings) -> list[Finding]:
    """Each name of a key that an open job, or an unconfirmed cancel, needs."""
    reader = JobStore(connect(settings.store_url, COMMAND), settings.namespace)
    try:
        used = within(LOOK_S, lambda: Counter(_names(reader)))
    except (*places.TROUBLE, TookTooLong):
        return []  # that the store is in trouble is another check's finding
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
    endpoints: Any = reader.redis.smembers(keys.endpoints())
    for endpoint in endpoints:
        yield from _values(reader.redis.hvals(keys.cancel_keys(endpoint)))
        ids: Any = reader.redis.zrange(keys.due(endpoint), 0, -1)
        for start in range(0, len(ids), BATCH):
            with reader.redis.pipeline(transaction=False) as pipe:
                for task_id in ids[start : start + BATCH]:
                    pipe.hget(keys.job(endpoint, task_id), "api_key_name")
                yield from _values(pipe.execute())


def _values(found: Any) -> Iterator[str]:
    yield from (name or "" for name in found)
