"""`jobs --aside`: what was put aside is shown without its control characters, sent again, or removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import pytest

from celery_runpod._cli import aside_command
from celery_runpod._store.put_aside import AsideMessage
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
