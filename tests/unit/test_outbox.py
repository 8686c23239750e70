"""Which kept messages are lost: those that are neither in their queue nor held by a worker, at two looks in a row."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from celery import Celery

from celery_app.watchdog.lost_calls import FRONTS, MESSAGES_AT_ONCE, OutboxWatch
from celery_app.watchdog.restored_store import Memory
from celery_runpod._protocol import ISSUED_AT, REPUBLISHED
from celery_runpod._publish import outbox_copies
from tests.builders import NOW, Bench
from tests.redis_commands import asked_of_redis

PLACE = {"exchange": "", "routing_key": "runpod", "priority": None}


class Broker:
    """The lists of kombu's Redis transport, on fakeredis, as a connection that can be looked into and published with."""

    def __init__(self) -> None:
        self.client = fakeredis.FakeRedis()
        self.unacked_key, self.unacked_index_key = "runpod.unacked", "runpod.unacked_index"
        self.default_channel = self
        self.published: list[tuple[str, str]] = []

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _q_for_pri(self, queue: str, priority: int) -> str:
        return f"{queue}\x06\x16{priority}" if priority else queue

    def _get_message_priority(self, message: Any, reverse: bool = False) -> int:
        return int(message["properties"]["priority"] or 0)

    def _lookup(self, exchange: str, routing_key: str) -> list[str]:
        return [routing_key]

    def Producer(self, **_: Any) -> Any:
        return SimpleNamespace(publish=self._publish)

    def _publish(self, body: Any, *, headers: dict[str, Any], **_: Any) -> None:
        self.published.append((headers["id"], headers[REPUBLISHED]))

    def send(self, task_id: str, at: float, queue: str = "runpod") -> None:
        self.client.lpush(queue, json.dumps({"headers": {"id": task_id, ISSUED_AT: at}}))

    def hold(self, task_id: str, body: str = "") -> None:
        """A worker holds this message."""
        text = json.dumps([{"body": body, "headers": {"lang": "py", "id": task_id}}, "", "runpod"])
        self.client.hset(self.unacked_key, f"tag of {task_id}", text)
        self.client.zadd(self.unacked_index_key, {f"tag of {task_id}": 1.0})


class Story:
    """Calls that were published at times before `NOW`, and a watch over them."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.broker = Broker()
        self.bench.app.connection_for_read = lambda: self.broker
        self.memory = Memory(None)
        self.watch = OutboxWatch(self.bench.services, self.memory)

    def published(self, task_id: str, ago_s: float, *, in_queue: bool, **place: Any) -> None:
        at = NOW - ago_s
        copy = json.dumps({"body": [[], {}, {}], "headers": {"id": task_id, ISSUED_AT: at}, "properties": {}})
        self.bench.store.outbox.keep_message(task_id, at, json.dumps({**PLACE, **place}), copy)
        if in_queue:
            queue = place.get("routing_key", "runpod")
            self.broker.send(task_id, at, self.broker._q_for_pri(queue, place.get("priority") or 0))

    def look(self, times: int = 2, every_s: float = 2.0) -> list[tuple[str, str]]:
        for _ in range(times):
            self.watch.look()
            self.bench.now += every_s
        return self.broker.published


@pytest.fixture
def story() -> Story:
    return Story()


def test_what_waits_in_its_queue_is_not_lost_however_long(story: Story) -> None:
    story.published("oldest", 3602, in_queue=True)
    story.published("old", 3600, in_queue=True)
    assert story.look(times=100) == []


def test_an_empty_queue_has_lost_what_is_kept(story: Story) -> None:
    story.published("t1", 5, in_queue=False)
    assert story.look(times=1) == []
    assert story.look(times=1) == [("t1", "lost")]


def test_what_was_published_before_the_oldest_message_is_not_in_the_queue(story: Story) -> None:
    story.published("lost", 9, in_queue=False)
    story.published("waits", 5, in_queue=True)
    assert story.look() == [("lost", "lost")]


def test_what_a_worker_holds_is_not_lost(story: Story) -> None:
    story.published("t1", 50, in_queue=False)
    story.broker.hold("t1")
    assert story.look(times=10) == []
    story.broker.client.flushall()
    story.bench.now += 50
    assert story.look() == [("t1", "lost")], "it was held until a minute ago"


def test_a_young_call_is_not_looked_for(story: Story) -> None:
    story.published("t1", 0.5, in_queue=False)
    assert story.look(times=3, every_s=0.5) == []


def test_each_priority_has_a_queue_of_its_own(story: Story) -> None:
    story.published("urgent", 9, in_queue=False, priority=9)
    story.published("usual", 20, in_queue=True)
    assert story.look() == [("urgent", "lost")]


def test_a_message_that_does_not_say_when_it_came_is_waited_for(story: Story) -> None:
    story.published("t1", 9, in_queue=False)
    story.broker.client.lpush("runpod", json.dumps({"headers": {"id": "of another program"}}))
    assert story.look() == []


def test_it_is_published_again_with_doubling_pauses(story: Story) -> None:
    story.published("t1", 5, in_queue=False)
    assert len(story.look(times=60, every_s=1.0)) == 3  # after 1 s, 11 s, 31 s


def test_a_call_that_was_in_its_queue_until_now_may_still_be_submitted(story: Story) -> None:
    story.published("t1", 3600, in_queue=True)
    story.look()
    story.broker.client.delete("runpod")
    assert story.look() == [("t1", "lost")]


def test_a_call_that_was_nowhere_for_longer_than_the_window_must_not_be_submitted(story: Story) -> None:
    story.published("t1", 61, in_queue=False)
    assert story.look() == [("t1", "unconfirmed")]


@pytest.mark.parametrize(("issued_after_s", "why"), [(1, "lost"), (-1, "unconfirmed")])
def test_what_was_called_while_a_worker_knew_the_store_may_be_submitted_though_it_was_missing_for_longer(
    story: Story, issued_after_s: float, why: str
) -> None:
    """Redis was away for ten minutes, and a dying connection had swallowed the call: the store is not an older one."""
    story.memory.keep("", NOW - 700, "a")
    story.memory.compared[""] = "b"  # another process after ten minutes, with all that the workers remember
    story.memory.keep("", NOW - 100, "b")
    story.published("t1", 700 - issued_after_s, in_queue=False)
    assert story.look() == [("t1", why)]


def test_what_a_worker_has_published_as_lost_it_does_not_publish_as_unconfirmed(story: Story) -> None:
    """The first copy waits in a long queue, and would find its call refused by the second."""
    story.published("t1", 50, in_queue=False)
    assert story.look(times=40) == [("t1", "lost")] * 4


def test_on_a_cluster_the_master_that_is_known_for_the_shortest_time_counts(story: Story) -> None:
    story.memory.keep("1", NOW - 500, "a")
    story.memory.keep("1", NOW - 100, "a")
    story.memory.keep("4", NOW - 100, "b")
    story.published("t1", 200, in_queue=False)
    assert story.look() == [("t1", "unconfirmed")]


def test_an_accepted_call_is_forgotten(story: Story) -> None:
    story.published("t1", 9, in_queue=False)
    story.watch.look()
    story.bench.store.outbox.drop_message("t1")
    assert story.look() == []
    assert not any("outbox" in key for key in story.bench.redis.scan_iter())


def test_a_call_that_is_accepted_while_it_is_looked_for_leaves_nothing_behind(story: Story) -> None:
    story.published("a", 5, in_queue=True)
    story.bench.store.outbox.drop_message("a")
    story.bench.store.outbox.note_held(["a"], NOW)
    assert story.bench.store.redis.keys("{runpod}:outbox*") == []


def test_a_lost_call_is_found_behind_any_number_that_wait_with_another_priority() -> None:
    """600 older calls were enough to hide one, until they were gone and it counted as unconfirmed."""
    story = Story()
    for number in range(700):
        story.published(f"w{number}", 4000 - number, in_queue=True, routing_key="slow")
        story.published(f"l{number}", 4000 - number, in_queue=number > 0, priority=0)
    story.published("urgent", 9, in_queue=False, priority=9)
    assert sorted(story.look()) == [("l0", "unconfirmed"), ("urgent", "lost")]


def test_a_call_that_was_swallowed_after_an_hour_in_a_long_queue_may_still_be_submitted() -> None:
    """It was never among the oldest ones that a look noted, because its queue went by too fast."""
    story = Story()
    for number in range(1200):
        story.published(f"t{number}", 3600 - number / 10, in_queue=True)
    story.look()
    for number in range(1000):
        story.broker.client.rpop("runpod")
        if number != 900:
            story.bench.store.outbox.drop_message(f"t{number}")
    assert story.look() == [("t900", "lost")]


def test_a_store_that_was_restored_has_old_notes_and_its_calls_are_not_submitted() -> None:
    story = Story()
    story.published("t1", 100, in_queue=True)
    story.look()
    story.broker.client.delete("runpod")
    story.bench.now += 3600
    OutboxWatch(story.bench.services, Memory(None)).look()
    assert story.look() == [("t1", "unconfirmed")]


def test_what_is_remembered_of_a_queue_is_bounded() -> None:
    story = Story()
    for number in range(400):
        story.published(f"t{number}", 1000 - number, in_queue=True)
    for number in range(300):
        story.look(times=1, every_s=0.5)
        story.broker.client.rpop("runpod")
        story.bench.store.outbox.drop_message(f"t{number}")
    [fronts] = story.bench.store.outbox.fronts().values()
    assert len(fronts) <= FRONTS + 1
    assert fronts[0][0] <= story.bench.now - 58, "and reaches back over the window"


def test_messages_that_workers_hold_are_read_once_and_only_when_a_call_is_missing() -> None:
    story = Story()
    for number in range(100):
        story.broker.hold(f"h{number}", body="x" * 10_000)
    story.published("waits", 5, in_queue=True)
    with asked_of_redis() as asked:
        story.look(times=3)
    assert asked.commands["HVALS"] == asked.commands["ZSCAN"] == 0
    story.published("h7", 9, in_queue=False)
    story.published("h8", 9, in_queue=False)
    with asked_of_redis() as asked:
        assert story.look(times=10) == []
    assert asked.commands["HMGET"] == 100 / MESSAGES_AT_ONCE
    assert asked.longest["HMGET"] == MESSAGES_AT_ONCE


def test_a_look_costs_the_same_however_many_calls_wait() -> None:
    costs = []
    for number in (10, 1500):
        story = Story()
        for place in range(number):
            story.published(f"t{place}", 9000 - place, in_queue=place > 0)
        with asked_of_redis() as asked:
            story.look(times=1)
        costs.append((asked.total, asked.longest.get("ZRANGEBYLEX")))
    assert costs[0] == costs[1]


def test_a_copy_is_kept_too_where_celery_is_given_several_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery(broker=["redis://h1/0", "redis://h2/0"], set_as_current=False)
    kept: list[str] = []
    reader = SimpleNamespace(outbox=SimpleNamespace(keep_message=lambda task_id, *_: kept.append(task_id)))
    monkeypatch.setattr(outbox_copies, "store_of", lambda app: reader)
    outbox_copies.keep(outbox_copies.Publishing(app, {}), {"id": "t1"}, [], "", "runpod", NOW)
    assert kept == ["t1"]
