"""`jobs --aside`: what was put aside is shown without its control characters, sent again, or removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import pytest
from kombu import Queue

from celery_runpod._cli import aside_command, job_commands
from celery_runpod._protocol import ENDED_QUEUE, FINISH, JOB_ENDED, RUN
from celery_runpod._publish.rabbitmq import CallersQueue
from celery_runpod._store.put_aside import AsideMessage
from celery_runpod.errors import JobUndeliverable, decode
from tests.builders import ENDPOINT, Bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()

    @contextmanager
    def store() -> Iterator[Any]:
        yield made.store

    monkeypatch.setattr(aside_command, "store_or_sentence", store)
    return made


def put(bench: Bench, **changes: Any) -> None:
    given = {"body": "[[], {}, {}]", "size": 12, "headers": {"id": "t1", "task": "runpod.run"}, "properties": {}}
    given |= {"id": "message-t1", "name": "runpod.run", "endpoint": "e1\x1b[2J", "queue": "runpod", "since": bench.now}
    bench.store.aside.put_message_aside(AsideMessage(**{**given, "why": "why", **changes}))


def test_it_is_listed_without_control_characters(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    put(bench)
    aside_command.list_aside(as_json=False)
    shown = capsys.readouterr().out
    assert "message-t1\tmessage\trunpod.run\te1\\x1b[2J" in shown and "\x1b" not in shown


def test_a_message_is_sent_again(bench: Bench) -> None:
    put(bench)
    aside_command.release("message-t1", bench.app)
    assert bench.count("runpod") == 1 and bench.store.aside.messages_aside() == []


@pytest.mark.parametrize("changes", [{"size": 9_000_000}, {"readable": False}])
def test_what_is_not_whole_is_not_sent(bench: Bench, changes: Any) -> None:
    put(bench, **changes)
    with pytest.raises(click.ClickException, match="cannot be released"):
        aside_command.release("message-t1", bench.app)
    assert len(bench.store.aside.messages_aside()) == 1


def test_a_record_is_dropped_and_its_task_ends(bench: Bench) -> None:
    bench.accepted("bad")
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "bad"), "state", "FANCY")
    assert bench.store.jobs(ENDPOINT, ["bad"]) == []
    aside_command.drop("record-bad", bench.app)
    told = bench.app.backend.get_task_meta("bad", cache=False)
    assert (told["status"], type(told["result"]).__name__) == ("FAILURE", "JobUndeliverable")
    assert bench.store.aside.count_aside() == (0, 0)


def unreadable(bench: Bench, continuation: Any) -> None:
    """A record that was put aside."""
    text = continuation if isinstance(continuation, str) else json.dumps(continuation)
    bench.accepted("bad")
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "bad"), mapping={"state": "FANCY", "continuation": text})
    assert bench.store.jobs(ENDPOINT, ["bad"]) == []


def published(bench: Bench, queue: str) -> list[dict[str, Any]]:
    """What the own worker would take; it is taken out."""
    found = []
    with bench.app.connection_for_read() as connection:
        while message := connection.default_channel.basic_get(queue, no_ack=True):
            assert message.headers["task"] == JOB_ENDED
            found.append(message.decode()[1])
    return found


def test_the_end_of_a_record_that_is_dropped_is_published_as_every_other_end(bench: Bench) -> None:
    """Who asked for the ends of its calls learns of this one too, and of the calls behind it, which never begin."""
    headers = {ENDED_QUEUE: "of-the-shop"}
    behind = {"task": RUN, "kwargs": {"endpoint": "e2"}, "options": {"task_id": "behind", "headers": headers}}
    unreadable(bench, {"task": FINISH, "args": [], "options": {"headers": headers, "chain": [behind]}})
    aside_command.drop("bad", bench.app)
    first, second = published(bench, "of-the-shop")
    assert (first["task_id"], first["endpoint"], first["state"], first["output"]) == ("bad", ENDPOINT, "FAILURE", None)
    assert (second["task_id"], second["endpoint"], second["state"]) == ("behind", "e2", "FAILURE")
    assert all(isinstance(decode(one["error"]), JobUndeliverable) for one in (first, second))
    # The result is there before its end is published.
    assert bench.app.backend.get_task_meta("bad", cache=False)["status"] == "FAILURE"


@pytest.mark.parametrize("continuation", ["no JSON", "[]", '{"options": 7}', '{"options": {"headers": 7}}'])
def test_a_record_without_a_readable_continuation_ends_all_the_same(bench: Bench, continuation: str) -> None:
    unreadable(bench, continuation)
    aside_command.drop("bad", bench.app)
    assert bench.app.backend.get_task_meta("bad", cache=False)["status"] == "FAILURE"


def test_an_end_that_could_not_be_published_is_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable(bench, {"task": FINISH, "args": [], "options": {"headers": {ENDED_QUEUE: "of-the-shop"}}})

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the broker is away")

    monkeypatch.setattr(bench.app, "send_task", refuse)
    aside_command.drop("bad", bench.app)
    said = capsys.readouterr()
    assert "dropped: bad" in said.out
    assert "job_ended of task bad was not published: the broker is away" in said.err


@pytest.mark.parametrize(
    ("broker", "kind"), [("amqp://guest@127.0.0.1//", CallersQueue), ("redis://127.0.0.1/0", Queue)]
)
def test_queues_of_the_users_app_are_left_as_they_are(broker: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ refuses a declaration with other arguments, and the command does not know the user's."""
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1/0")
    monkeypatch.setenv("RUNPOD_BROKER_URL", broker)
    assert type(job_commands.client().amqp.queues["of-the-shop"]) is kind
