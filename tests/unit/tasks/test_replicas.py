"""Submits of a store that has replicas: nothing is sent before one of them has the intent."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod._store.states import State
from celery_runpod._store.submits import Post
from tasks.replicas import Replicas
from tests.builders import ENDPOINT, Bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """fakeredis knows no WAIT: `bench.answers` says what is confirmed, one after the other, then everything."""
    bench: Any = Bench(RUNPOD_STORE_REPLICAS="1")
    bench.answers, bench.asked = [], []

    def confirm(endpoint: str, posts: Any, now: float, replicas: int, wait_s: float) -> set[str] | None:
        tokens = {post.token for post in posts}
        bench.asked.append((endpoint, len(tokens), replicas, wait_s))
        answer = bench.answers.pop(0) if bench.answers else tokens
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    monkeypatch.setattr(bench.store.submits, "confirm", confirm)
    return bench  # type: ignore[no-any-return]


def test_what_a_replica_has_is_sent(bench: Any) -> None:
    assert bench.accepted().state is State.IN_QUEUE
    assert bench.asked == [(ENDPOINT, 0, 1, 1.0), (ENDPOINT, 1, 1, 1.0)]


def test_without_a_replica_nothing_is_claimed_and_it_waits(bench: Any) -> None:
    bench.answers = [None]
    waiting = bench.accepted()
    assert (waiting.state, waiting.reason, waiting.attempt) == (State.WAITING, "NO_REPLICA", 0)
    assert bench.runpod.called("run") == 0
    bench.check(after_s=2)
    assert bench.record().state is State.IN_QUEUE
    assert bench.runpod.called("run") == 1


@pytest.mark.parametrize("answer", [None, set(), RedisConnectionError("the master is away")])
def test_a_claim_that_no_replica_has_is_taken_back_and_nothing_was_sent(bench: Any, answer: Any) -> None:
    bench.answers = [set(), answer]
    waiting = bench.accepted()
    assert (waiting.state, waiting.reason) == (State.WAITING, "NO_REPLICA")
    assert bench.redis.zcard(bench.store.keys.posts(ENDPOINT)) == 0
    bench.check(after_s=2)
    assert (bench.record().state, bench.record().attempt) == (State.IN_QUEUE, 2)
    assert bench.runpod.called("run") == 1


def test_while_the_store_fails_over_a_claim_is_taken_back_until_it_answers(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.answers = [set(), RedisConnectionError("the master is away")]
    take_back, tries = bench.store.submits.not_submitted, []

    def away(*arguments: Any) -> str:
        tries.append(arguments)
        if len(tries) < 4:
            raise RedisConnectionError("the master is away")
        return str(take_back(*arguments))

    monkeypatch.setattr(bench.store.submits, "not_submitted", away)
    assert bench.accepted().state is State.WAITING
    assert len(tries) == 4
    assert bench.runpod.called("run") == 0


def test_threads_that_ask_at_once_share_a_question(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    sizes: list[int] = []

    def slowly(endpoint: str, posts: Any, *_: Any) -> set[str]:
        sizes.append(len(posts))
        begun.set()
        assert go.wait(10)
        return {post.token for post in posts if post.token != "lost"}

    monkeypatch.setattr(bench.store.submits, "confirm", slowly)
    replicas = Replicas(bench.services, ENDPOINT)
    posts = [Post(ENDPOINT, "run", token, 0.0, 1.0) for token in ("first", "second", "lost", "third")]
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(replicas.have, posts[0])
        assert begun.wait(10)
        others = [pool.submit(replicas.have, post) for post in posts[1:]]
        while len(replicas._next.posts) < 3:
            pass
        go.set()
        assert [one.result(10) for one in (first, *others)] == [True, True, False, True]
    assert sizes == [1, 3]


def test_one_redis_is_not_asked() -> None:
    bench = Bench()
    assert bench.accepted().state is State.IN_QUEUE
    assert not bench.redis.exists(bench.store.keys.confirmed(ENDPOINT))
