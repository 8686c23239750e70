"""The Redis users of docker-compose.yml, on a real Redis: what none may do, and what each must not.

That each can do its work is held by the services themselves (`test_compose_commands.py`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.backends import redis as celery_redis
from redis import Redis
from redis.exceptions import NoPermissionError

from celery_app.overrides.broker_refusals import wrong_keys
from celery_runpod._devstack.stack import Stack, redis_server
from celery_runpod._live.job_rows import ended_rows, open_rows
from celery_runpod._store.store import JobStore
from tests.compose import GIVEN, ROLES, ROOT, password, rights_for, services, version_of

USERS = [role.lower() for role in ROLES]
RECORD, QUEUE = "{runpod:e1}:job:t1", "runpod"
ADMINISTRATION = [
    "FLUSHALL", "FLUSHDB", "CONFIG GET maxmemory", "CONFIG SET maxmemory 1", "KEYS *", "SHUTDOWN", "MONITOR",
    "SAVE", "BGREWRITEAOF", "ACL LIST", "ACL SETUSER x", "CLIENT LIST", "CLIENT KILL ID 1", "REPLICAOF NO ONE",
    "SWAPDB 0 1", "SCRIPT FLUSH", "MODULE LIST", "SLOWLOG GET", "RANDOMKEY",
]  # fmt: skip
FORBIDDEN = [
    ("caller", f"SET another:{RECORD} 1"),
    ("caller", "GET another-application"),
    ("caller", "SCAN 0"),
    ("webhooks", f"RPOP {QUEUE}"),
    ("webhooks", "BRPOP runpod.status 1"),
    ("webhooks", "LPUSH runpod x"),
    ("webhooks", f"HGETALL {RECORD}"),
    ("webhooks", "GET celery-task-meta-t1"),
    ("webhooks", "SUBSCRIBE /0.celeryev"),
    ("webhooks", "PUBLISH /0.celery.pidbox x"),
    ("webhooks", "SCAN 0"),
    ("webhooks", f"DEL {RECORD}"),
    ("flower", f"HGET {RECORD} input"),
    ("flower", "SET celery-task-meta-t1 forged"),
    ("worker", "GET another-application"),
    ("worker", "GET runpod2:task:t1"),
    ("worker", "SUBSCRIBE another-application"),
]
FORBIDDEN_SINCE_7 = [
    ("caller", f"HSET {RECORD} state COMPLETED"),
    ("caller", "SET runpod:task:t1 x"),
    ("caller", "DEL runpod:incarnation"),
    ("caller", f"RPOP {QUEUE}"),
    ("caller", f"LRANGE {QUEUE} 0 -1"),
    ("caller", f"DEL {QUEUE}"),
    ("caller", f"SET {QUEUE} x"),
    ("caller", f"EXPIRE {QUEUE} 1"),
    ("caller", "DEL _kombu.binding.runpod"),
    ("caller", "SREM _kombu.binding.runpod x"),
    ("caller", "DEL {runpod}:outbox"),
    ("webhooks", "SET runpod.status x"),
    ("webhooks", "EXPIRE runpod.status 1"),
    ("webhooks", "SADD runpod.status x"),
    ("webhooks", "LPUSH runpod.deliver x"),
    ("webhooks", f"SET {RECORD} x"),
    ("webhooks", f"EXPIRE {RECORD} 1"),
    ("webhooks", "HSET {runpod:e1}:failed:t1 input x"),
    ("webhooks", "DEL _kombu.binding.runpod"),
    ("webhooks", "SADD _kombu.binding.runpod x"),
    ("flower", "SET _kombu.binding.runpod x"),
    ("flower", "SADD _kombu.binding.runpod x"),
    ("flower", "PUBLISH /0.celeryev/worker.heartbeat x"),
    ("flower", f"EXPIRE {QUEUE} 1"),
    ("webhooks", "LRANGE runpod.status 0 -1"),
    ("webhooks", "SET runpod:incarnation x"),
    ("flower", f"LPUSH {QUEUE} x"),
    ("flower", f"DEL {RECORD}"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    stack = Stack(tmp_path_factory.mktemp("acl"))
    words = services()["redis"]["command"]
    users = rights_for(redis_server(), words[words.index("--user") :])
    try:
        yield stack.redis(arguments=users)
    finally:
        stack.stop()


@pytest.fixture
def redis(url: str) -> Iterator[Any]:
    """The operator's connection: the default user."""
    redis: Any = Redis.from_url(url, decode_responses=True)
    redis.hset(RECORD, mapping={"state": "IN_QUEUE", "input": "{}"})
    redis.lpush(QUEUE, "a call")
    yield redis
    redis.flushall()


def as_user(url: str, user: str) -> Any:
    return Redis.from_url(url.replace("redis://", f"redis://{user}:{password(user)}@"), decode_responses=True)


@pytest.mark.parametrize("user", USERS)
def test_no_role_administers_redis(url: str, redis: Any, user: str) -> None:
    connection = as_user(url, user)
    assert connection.ping()
    for command in ADMINISTRATION:
        with pytest.raises(NoPermissionError):
            connection.execute_command(*command.split(" "))
    assert redis.exists(RECORD, QUEUE) == 2


def test_what_a_role_must_not_do(url: str, redis: Any) -> None:
    since_7 = version_of(redis_server()) >= (7, 0)
    for user, command in [*FORBIDDEN, *(FORBIDDEN_SINCE_7 if since_7 else [])]:
        with pytest.raises(NoPermissionError):
            as_user(url, user).execute_command(*command.split(" "))
    assert redis.hgetall(RECORD) == {"state": "IN_QUEUE", "input": "{}"}
    assert redis.lrange(QUEUE, 0, -1) == ["a call"]


def test_what_each_role_needs(url: str, redis: Any) -> None:
    """What the next version of a service may not lose; the rest is in `test_compose_commands.py`."""
    caller, webhooks, flower = (as_user(url, user) for user in ("caller", "webhooks", "flower"))
    for queue in ("runpod", "runpod.deliver", "runpod\x06\x163"):
        assert caller.lpush(queue, "a call") and caller.llen(queue)
    assert caller.hgetall(RECORD)["state"] == "IN_QUEUE"
    assert caller.set("runpod:cancel:t1", "job") and caller.zadd("{runpod}:outbox", {"t1": 1}) is not None
    assert caller.set("celery-task-meta-t1", "{}") and caller.publish("celery-task-meta-t1", "{}") == 0
    # Django's admin lists what has ended.
    JobStore(as_user(url, "worker"), "runpod").mark_delivered("e1", "t0", [], 1000.0)
    assert ("e1", "t0") in JobStore(caller, "runpod").ids.ended()
    assert open_rows(JobStore(caller, "runpod"), None, 10) and ended_rows(JobStore(caller, "runpod"), None, 10) == []
    JobStore(caller, "runpod").watches.note("e1", "t1")
    assert JobStore(as_user(url, "worker"), "runpod").watches.among("e1", ["t1", "t2"]) == {"t1"}
    redis.xadd("{runpod:e1}:stream:t1", {"run": "0.1", "attempt": "1", "n": "1", "bytes": "1", "chunk": "1"}, id="1-1")
    assert [one.text for one in JobStore(caller, "runpod").streams.read([("e1", "t1", "0-0")])["e1", "t1"]] == ["1"]
    assert JobStore(caller, "runpod").streams.holds("e1", "t1", "1-1") is not None
    assert webhooks.hmget(RECORD, "state", "attempt") == ["IN_QUEUE", None]
    JobStore(caller, "runpod").outbox.keep_message("t2", 1.0, "{}", "{}")
    assert JobStore(caller, "runpod").outbox.calls() == ["t1", "t2"]
    redis.hset(RECORD, "attempt", "1")
    assert JobStore(webhooks, "runpod").hint("e1", "t1", 1, 1000.0) == "publish"
    redis.hset(RECORD, "state", "SUBMITTING")
    assert JobStore(webhooks, "runpod").hint("e1", "t1", 1, 2000.0, "a-job") == "publish"
    assert webhooks.lpush("runpod.status", "look") and webhooks.smembers("_kombu.binding.runpod.status") == set()
    assert flower.llen("runpod") and flower.publish("/0.celery.pidbox", "{}") == 0


def test_a_worker_finds_which_keys_of_its_broker_hold_another_type(url: str, redis: Any) -> None:
    redis.set("runpod.status", "x")
    app = Celery(broker=url.replace("redis://", f"redis://worker:{password('worker')}@"), set_as_current=False)
    app.conf.broker_transport_options = {"unacked_key": "runpod.unacked", "unacked_index_key": "runpod.unacked_index"}
    assert wrong_keys(app, ["runpod", "runpod.status"]) == ["runpod.status"]


def test_the_worker_may_call_what_its_scripts_call() -> None:
    words = services()["redis"]["command"]
    rights = set(words[words.index("worker") : words.index("caller")])
    files = [path for folder in ("tasks", "celery_app", "celery_runpod") for path in (ROOT / folder).rglob("*.*")]
    texts = [path.read_text() for path in files if path.suffix in (".lua", ".py")]
    called = {f"+{name.lower()}" for text in texts for name in re.findall(r"redis\.call\('([A-Z]+)'", text)}
    assert called and called <= rights


def test_the_caller_may_call_what_celerys_scripts_for_chords_call() -> None:
    [results] = [word for word in services()["redis"]["command"] if word.startswith("(~celery-task-meta-*")]
    called = {f"+{name.lower()}" for name in re.findall(r"redis\.call\('([A-Z]+)'", inspect.getsource(celery_redis))}
    assert called and called <= set(results.strip("()").split())


def test_the_how_to_shows_the_users_as_they_are() -> None:
    words = services()["redis"]["command"]
    users = re.split(r" ?--user ", " ".join(words[words.index("--user") :]))[1:]
    secrets = {value: f"PASSWORD_OF_{name.split('_')[1]}" for name, value in GIVEN.items() if name.startswith("REDIS_")}
    lines = []
    for line in users:
        for secret, name in secrets.items():
            line = line.replace(f">{secret}", f">{name}")
        lines.append(f"user {line}")
    assert "```\n" + "\n".join(lines) + "\n```" in (ROOT / "docs/how-to-redis-acl.md").read_text()
