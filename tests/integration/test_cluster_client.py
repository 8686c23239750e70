"""The client of a cluster, and what the store does with it, on three real masters with a replica each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from celery_runpod._cli.doctor.replica_checks import check_replicated
from celery_runpod._cluster import in_order
from celery_runpod._connect import COMMAND, STORE, connect
from celery_runpod._store.store import CheckTimes, JobStore
from celery_runpod._store.submits import Post
from tasks.budget import Budget
from tests.builders import ENDPOINT, Bench
from tests.redis_servers import Cluster, kinds
from tests.servers import TestStack
from tests.waiting import eventually

WORDS = [f"word{number}" for number in range(60)]


@pytest.fixture(scope="module", params=kinds())
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    stack = TestStack(tmp_path_factory.mktemp("nodes"))
    try:
        yield Cluster(stack, request.param)
    finally:
        stack.stop()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Any]:
    cluster.settle()
    client: Any = connect(cluster.url, STORE)
    client.flushall()
    yield client
    client.close()


def test_answers_come_in_the_order_of_the_commands_from_all_masters(client: Any) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number, word in enumerate(WORDS):
            pipe.hset(word, mapping={"number": number})
        pipe.mget(WORDS[:3])
        pipe.set("last", "x", ex=60)
        for word in WORDS:
            pipe.hgetall(word)
        answers = pipe.execute(raise_on_error=False)
    assert answers[: len(WORDS)] == len(WORDS) * [1]
    assert isinstance(answers[len(WORDS)], ResponseError)
    assert answers[-len(WORDS) :] == [{"number": str(number)} for number in range(len(WORDS))]
    assert client.mget(["last", "nothing"]) == ["x", None]
    pipe = client.pipeline()
    pipe.get(WORDS[0])
    with pytest.raises(ResponseError):
        pipe.execute()


def test_what_must_come_later_comes_later_on_whatever_master(client: Any) -> None:
    with client.pipeline() as pipe:
        pipe.set(WORDS[0], "1")
        in_order(pipe)
        assert client.get(WORDS[0]) == "1"
        pipe.get(WORDS[0])
        assert pipe.execute() == [True, "1"]


def test_scripts_that_a_master_has_forgotten_are_loaded_again(cluster: Cluster, client: Any) -> None:
    store = JobStore(client, "runpod")
    assert [found.jobs for found in store.open_jobs.count(WORDS).values()] == len(WORDS) * [0]
    for node in cluster.nodes:
        node.client.script_flush()
    words = store.cancels.request_cancels("e1", ["t1"], {}, 1.0, 2.0)
    assert words == []
    assert [found.jobs for found in store.open_jobs.count(WORDS).values()] == len(WORDS) * [0]


def test_a_slot_that_moves_is_followed_at_each_moment_of_its_move(cluster: Cluster, client: Any) -> None:
    key, new = "{moving}:a", "{moving}:b"
    client.set(key, "1")
    source, target = cluster.master_of(key), cluster.nodes[0]
    for word in WORDS:
        target = cluster.master_of(word)
        if target is not source:
            break
    slot = key_slot(key.encode())
    ids = {node: node.client.execute_command("CLUSTER MYID") for node in (source, target)}
    target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    # The key is still there; a new one is made on the way.
    with client.pipeline() as pipe:
        pipe.get(key)
        pipe.set(new, "2")
        assert pipe.execute() == ["1", True]
    source.client.migrate("127.0.0.1", target.port, [key], 0, 5000)
    assert client.mget([key, new]) == ["1", "2"]
    for node in (target, source):
        node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    assert client.mget([key, new]) == ["1", "2"]
    assert client.incr(key) == 2


def test_streams_of_several_slots_are_read_together_and_waited_for(client: Any) -> None:
    client.xadd("{one}:s", {"a": "1"})
    client.xadd("{two}:s", {"a": "2"})
    found = dict(client.xread({"{one}:s": "0-0", "{two}:s": "0-0"}, count=10))
    assert {name: entries[0][1] for name, entries in found.items()} == {"{one}:s": {"a": "1"}, "{two}:s": {"a": "2"}}
    assert client.xread({"{one}:s": "9999999999999-0"}, block=100) == []


def test_the_budget_is_one_for_all_and_kept(cluster: Cluster) -> None:
    one, other = (Budget(JobStore(connect(cluster.url, STORE), "runpod").scripts, time.time) for _ in range(2))
    assert one.take("e1", "cancel", 80) == 80
    assert other.take("e1", "cancel", 80) == 20
    assert one.take("e2", "cancel", 5) == 5


def test_a_cluster_that_is_away_is_a_connection_error_in_the_time_of_one_try() -> None:
    with pytest.raises(RedisConnectionError, match="no server of the cluster answers"):
        connect("redis+cluster://127.0.0.1:1", COMMAND).get("key")


def test_an_intent_counts_when_a_replica_has_it_and_only_on_the_master_where_it_was_claimed(
    cluster: Cluster, client: Any
) -> None:
    store, now = JobStore(client, "runpod"), time.time()
    claimed, gone = (Post("e1", "run", token, 0.0, now + 20.5) for token in ("claimed", "gone"))
    client.zadd(store.keys.posts("e1"), {claimed.member: now + 2})
    replica = cluster.replica_of(store.keys.posts("e1"))
    assert store.submits.confirm("e1", [claimed, gone], now, 1, 5.0) == {"claimed"}
    assert replica.client.execute_command("ROLE")[0] == "slave"
    assert store.submits.confirm("e1", [claimed], now, 2, 0.1) is None


def test_a_replica_that_was_promoted_without_the_latest_writes_is_noticed_for_its_endpoints(
    cluster: Cluster, client: Any
) -> None:
    """What holds the beat of 100 seconds ago, while a worker remembers one of 50 seconds ago, has lost that time."""
    store = JobStore(client, "runpod")
    names = [f"e{number}" for number in range(30)]
    marks = {name: store.workers.master_of(name) for name in names}
    assert len(set(marks.values())) == len(store.workers.masters()) == 3
    now = time.time()
    beats = {mark: store.workers.beat(now - 100, None, 2.0, 5.0, mark) for mark in store.workers.masters()}
    assert {word for word, _ in beats.values()} == {"ok"}
    settled = {name: store.submits.signs(name, ["t"]).incarnation.settled for name in names}
    assert set(settled.values()) == {True}
    mark = marks["e0"]
    restarted(cluster, store.keys.due("e0"))
    for other in store.workers.masters():
        word, _ = store.workers.beat(now, now - 50, 2.0, 5.0, other, beats[other][1])
        assert word == ("went_back" if other == mark else "ok"), other
    for name in names:
        signs = store.submits.signs(name, ["t"]).incarnation
        assert (signs.settled, signs.fence) == ((False, now - 50) if marks[name] == mark else (True, 0.0))


def test_a_call_whose_record_was_lost_with_its_master_waits_again(client: Any) -> None:
    store, bench = JobStore(client, "runpod"), Bench()
    for task_id in ("kept", "lost"):
        store.outbox.keep_message(task_id, bench.now, "{}", "{}")
        job = bench.job(task_id)
        entered = store.enter(
            job, bench.now, bench.now, CheckTimes(45.0), followers=["after"], above=["group"], noted=[task_id]
        )
        assert (entered.word, entered.notes) == ("accepted", {})
        assert store.ids.job(task_id) is not None
    assert store.outbox.calls() == []
    assert store.settle_accepted(bench.now - 1) == []
    client.delete(store.keys.job(ENDPOINT, "lost"))
    assert store.settle_accepted(bench.now + 1) == ["lost"]
    assert store.outbox.calls() == ["lost"]
    assert store.outbox.copy_of_message("lost") == {}
    assert store.outbox.copy_of_message("kept") is None
    assert store.settle_accepted(bench.now + 1) == []


def test_doctor_names_each_master_and_what_it_lacks(cluster: Cluster, client: Any) -> None:
    found = {(one.check, one.level.value): one.found for one in check_replicated("store", cluster.url)}
    assert found["store", "ok"].endswith("a cluster of 3 masters, 3 replicas")
    masters = [node for node in cluster.nodes if node.role() == "master"]
    for node in masters:
        name = f"store: {node.address}"
        assert found[f"{name}: replicas", "ok"] == "1 connected; min-replicas-to-write is not set"
        assert found[f"{name}: memory", "ok"] and found[f"{name}: persistence", "ok"]
    assert {level for _, level in found} == {"ok"}
    master, lone = masters[0], cluster.replica_of_node(masters[0])
    master.client.config_set("appendonly", "no")
    master.client.config_set("maxmemory-policy", "allkeys-lru")
    lone.kill()
    try:
        eventually(lambda: master.client.info("replication")["connected_slaves"], 0)
        wrong = {
            (one.check, one.level.value) for one in check_replicated("store", cluster.url) if one.level.value != "ok"
        }
    finally:
        lone.start()
        master.client.config_set("appendonly", "yes")
        master.client.config_set("maxmemory-policy", "noeviction")
    name = f"store: {master.address}"
    assert wrong == {(f"{name}: replicas", "wrong"), (f"{name}: persistence", "warning"), (f"{name}: memory", "wrong")}


def restarted(cluster: Cluster, key: str) -> None:
    """Kill a master and its replica, and start them again on the data that they had."""
    master = cluster.master_of(key)
    pair = (cluster.replica_of_node(master), master)
    for node in pair:
        node.kill()
    for node in pair:
        node.start()
    cluster.settle()
