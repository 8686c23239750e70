"""A chord whose join or publish meets a Redis or a broker that is away is told again, and not failed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from celery import Celery, states
from celery.app.task import Context
from celery.backends.redis import RedisBackend
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_app.overrides.chord_keeping import ChordKeepingBackend
from celery_app.worker_app import create_app

GROUP, SIZE = "g1", 2


class Story:
    """A chord of two members that are done, and a backend on fakeredis."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[RedisBackend]) -> None:
        self.redis = fakeredis.FakeRedis()
        monkeypatch.setattr(RedisBackend, "_create_client", lambda backend, **params: self.redis)
        self.app = Celery(broker="memory://", backend="redis://127.0.0.1:1/0", set_as_current=False)
        self.app.conf.task_publish_retry = False
        self.app.loader.override_backends = {"redis": f"{kind.__module__}:{kind.__name__}"}

        @self.app.task(name="unit.body", shared=False)
        def body(values: Any) -> None: ...

        self.backend: Any = self.app.backend
        assert type(self.backend) is kind
        self.body = self.app.signature("unit.body", task_id="the-body", queue="bodies")
        self.backend.set_chord_size(GROUP, SIZE)

    def tell(self, index: int) -> None:
        request = SimpleNamespace(id=f"t{index}", group=GROUP, group_index=index, chord=self.body, errbacks=None)
        self.backend.on_chord_part_return(request, states.SUCCESS, index)

    def claim_ends(self) -> None:
        self.redis.delete(self.backend.get_key_for_group(GROUP, ".c"))

    def published(self) -> list[Any]:
        found = []
        with self.app.connection_for_read() as connection:
            channel = connection.default_channel
            while (message := channel.basic_get("bodies", no_ack=True)) is not None:
                found.append(message.decode()[0])
        return found

    def state(self) -> str:
        return str(self.backend.get_task_meta("the-body", cache=False)["status"])


def no_join(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = story.redis.pipeline

    def away(*_: Any, **__: Any) -> Any:
        monkeypatch.setattr(story.redis, "pipeline", pipeline)  # back at once
        raise RedisConnectionError("cut")

    monkeypatch.setattr(story.redis, "pipeline", away)


def no_broker(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("refused")

    monkeypatch.setattr(story.app.amqp, "_retry_publish", away)


@pytest.mark.parametrize("trouble", [no_join, no_broker])
def test_it_is_told_again_when_what_was_away_is_back(monkeypatch: pytest.MonkeyPatch, trouble: Any) -> None:
    story = Story(monkeypatch, ChordKeepingBackend)
    story.tell(0)
    with monkeypatch.context() as while_away:
        trouble(story, while_away)
        with pytest.raises((RedisConnectionError, OperationalError)):
            story.tell(1)
    assert (story.state(), story.published()) == ("PENDING", [])
    story.claim_ends()
    story.tell(1)
    assert story.published() == [[[0, 1]]]
    story.tell(1)
    assert story.published() == []


@pytest.mark.parametrize("trouble", [no_join, no_broker])
def test_celerys_own_fails_it(monkeypatch: pytest.MonkeyPatch, trouble: Any) -> None:
    """If this fails, Celery has mended it, and the backend of ours can go."""
    story = Story(monkeypatch, RedisBackend)
    story.tell(0)
    with monkeypatch.context() as while_away:
        trouble(story, while_away)
        story.tell(1)
    assert story.state() == "FAILURE"


def test_a_body_that_cannot_be_sent_at_all_fails_its_chord(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch, ChordKeepingBackend)
    story.body.options["serializer"] = "no such one"
    story.tell(0)
    story.tell(1)
    assert story.state() == "FAILURE"


def fail_a_lane_twice(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second member is the last of a chain, whose first task fails; its delivery dies before the chord knows it."""
    last = story.app.signature("unit.step", task_id="t1", group_id=GROUP, group_index=1, chord=story.body)
    request = Context(id="first", chain=[last])

    def dies(*_: Any, **__: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(story.backend, "on_chord_part_return", dies)
        with pytest.raises(SystemExit):
            story.backend.mark_as_failure("first", ValueError("x"), request=request)
    assert story.backend.get_task_meta("t1", cache=False)["status"] == "FAILURE"
    for _ in range(2):
        story.backend.mark_as_failure("first", ValueError("x"), request=request)


@pytest.mark.parametrize(("backend", "state"), [(ChordKeepingBackend, "FAILURE"), (RedisBackend, "PENDING")])
def test_a_lane_whose_failure_was_stored_by_a_delivery_that_died_is_added_to_its_chord(
    monkeypatch: pytest.MonkeyPatch, backend: type[RedisBackend], state: str
) -> None:
    """If it fails for Celery's own backend, Celery has mended it."""
    story = Story(monkeypatch, backend)
    story.tell(0)
    fail_a_lane_twice(story, monkeypatch)
    assert story.state() == state
    assert story.published() == []
    assert story.backend.get_state("t1") == "FAILURE"


def test_the_worker_has_it() -> None:
    assert isinstance(create_app().backend, ChordKeepingBackend)


def test_the_error_of_a_chord_stands_before_its_errbacks_are_published(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch, ChordKeepingBackend)
    seen: list[str] = []
    monkeypatch.setattr(story.backend, "_call_task_errbacks", lambda *_: seen.append(story.state()))
    try:
        raise ValueError("x")
    except ValueError as error:
        story.backend.chord_error_from_stack(story.body, error)
    assert seen == [states.FAILURE]
