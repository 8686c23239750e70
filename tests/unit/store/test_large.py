"""Where thousands of something are read, no answer of Redis holds more than a batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sized
from typing import Any

import pytest

from celery_runpod._store.states import State
from celery_runpod._store.store import JobStore
from celery_runpod._store.store_part import BATCH
from tests.builders import ENDPOINT, NOW, Bench
from tests.redis_commands import asked_of_redis

MANY = 3500
KEYS = JobStore(Bench().redis, "runpod").keys


def members(key: str) -> Callable[[Any], None]:
    return lambda pipe: pipe.sadd(key, *(f"t{number}" for number in range(MANY)))


def scores(key: str) -> Callable[[Any], None]:
    return lambda pipe: pipe.zadd(key, {f"t{number}": number for number in range(MANY)})


def waiting(pipe: Any) -> None:
    scores(KEYS.due(ENDPOINT))(pipe)
    for number in range(MANY):
        pipe.hset(KEYS.job(ENDPOINT, f"t{number}"), "state", "WAITING")


def copies(pipe: Any) -> None:
    scores(KEYS.outbox())(pipe)
    text = json.dumps({"body": [[], {"endpoint": "flux"}, {}]})
    pipe.hset(KEYS.outbox_messages(), mapping={f"t{number}": text for number in range(MANY)})


def aside(pipe: Any) -> None:
    pipe.zadd(KEYS.endpoints(), {ENDPOINT: NOW})
    scores(KEYS.aside(ENDPOINT))(pipe)


READS: dict[str, tuple[Callable[[Any], None], Callable[[JobStore], Sized]]] = {
    "endpoints": (scores(KEYS.endpoints()), lambda store: store.endpoints.all()),
    "jobs of a group": (members(KEYS.root("g")), lambda store: store.ids.members("g")),
    "jobs in a state": (waiting, lambda store: store.ids_in(ENDPOINT, State.WAITING)),
    "calls that nobody has taken": (copies, lambda store: store.outbox.calls()),
    "those of one endpoint": (copies, lambda store: store.outbox.calls("flux")),
    "records that were put aside": (aside, lambda store: list(store.aside.records_aside())),
    "calls that wait for a shared job": (
        members(KEYS.waiters(ENDPOINT, "s")),
        lambda store: store.shared.waiters(Bench().job("s")),
    ),
}


@pytest.mark.parametrize("what", READS)
def test_no_answer_holds_more_than_a_batch(what: str) -> None:
    write, read = READS[what]
    bench = Bench()
    with bench.redis.pipeline(transaction=False) as pipe:
        write(pipe)
        pipe.execute()
    with asked_of_redis() as asked:
        assert len(read(bench.store)) == MANY
    # Redis may add a few to what COUNT asks for; a scan of a zset answers with a score for each member.
    assert max(asked.longest.values()) <= 2 * BATCH + 20, asked.longest
