"""What is declared with a message on RabbitMQ, and when a publish counts: without a RabbitMQ."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import MessageNacked, NotFound, PreconditionFailed
from celery import Celery
from kombu.common import Broadcast
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from celery_runpod.errors import BrokerUnavailable, ConfigurationError
from celery_runpod.rabbitmq import (
    CallersQueue,
    QuorumQueue,
    broker_of,
    declare_followers,
    mend_declarations,
    quorum_arguments,
)
from config.celery import celery_config
from config.settings import load_settings
from tasks.plan import delayed_s
from tests.builders import NOW, Bench

AMQP = "amqp://guest:guest@127.0.0.1:1//"


class Channel:
    """What kombu declares and publishes on."""

    def __init__(self, version: str = "3.13.7", error: Exception | None = None, answer: Any = None) -> None:
        self.declared: list[dict[str, Any]] = []
        self.published: list[dict[str, Any]] = []
        self.probes: list[Channel] = []
        self.error, self.answer = error, answer
        self.collected = 0
        self.connection = SimpleNamespace(
            server_properties={"version": version},
            client=SimpleNamespace(declared_entities=set()),
            channel=self._probe,
            collect=self._collect,
        )

    def queue_declare(self, **call: Any) -> None:
        self.declared.append(call)
        if self.error is not None and (call.get("passive") or not isinstance(self.error, NotFound)):
            raise self.error

    def basic_publish_confirm(self, *_: Any, **call: Any) -> str:
        self.published.append(call)
        if self.answer is not None:
            raise self.answer
        return "taken"

    def prepare_queue_arguments(self, arguments: Any, **_: Any) -> Any:
        return arguments

    def close(self) -> None:
        pass

    def _probe(self) -> Channel:
        self.probes.append(Channel(error=self.error))
        return self.probes[-1]

    def _collect(self) -> None:
        self.collected += 1


@pytest.fixture
def app() -> Celery:
    return Celery("theirs", broker=AMQP, set_as_current=False)


@pytest.mark.parametrize(
    ("version", "limit"), [("3.10.8", None), ("3.13.7", None), ("4.0.2", -1), ("4.2", -1), ("10.0", -1), ("", None)]
)
def test_no_message_is_thrown_away_for_coming_back_too_often(version: str, limit: int | None) -> None:
    """Before version 4 there is no limit, and -1 would be one of zero."""
    assert quorum_arguments(version).get("x-delivery-limit") == limit
    assert quorum_arguments(version)["x-queue-type"] == "quorum"


def test_a_queue_is_declared_once_on_a_connection_and_confirms_are_kept_on() -> None:
    channel: Any = Channel("4.1.0")
    for _ in range(3):
        QuorumQueue("runpod").declare(channel=channel)
    assert [call["arguments"] for call in channel.declared] == [{"x-queue-type": "quorum", "x-delivery-limit": -1}]
    assert channel.basic_publish("body", confirm_timeout=None) == "taken"
    assert channel.published == [{"confirm_timeout": 5.0}]


def test_a_refused_message_is_an_error_of_the_broker() -> None:
    channel: Any = Channel(answer=MessageNacked())
    QuorumQueue("runpod").declare(channel=channel)
    with pytest.raises(OperationalError, match="refused"):
        channel.basic_publish("body")


def test_after_a_missing_confirm_the_connection_is_not_used_again() -> None:
    channel: Any = Channel(answer=TimeoutError())
    QuorumQueue("runpod").declare(channel=channel)
    with pytest.raises(OperationalError, match="no confirm within 5 s"):
        channel.basic_publish("body")
    assert channel.collected == 1


def test_an_unconfirmed_call_does_not_say_that_nothing_was_enqueued() -> None:
    error = BrokerUnavailable("broker", "amqp://***@host//", "task t1: no confirm within 5 s", True)
    assert "nothing was enqueued" not in str(error)
    assert "same task_id" in str(error)
    assert str(type(error)(*error.args)) == str(error)


def test_a_queue_with_other_arguments_is_told_in_words() -> None:
    channel: Any = Channel(error=PreconditionFailed("inequivalent arg 'x-queue-type'"))
    with pytest.raises(ConfigurationError, match="rabbitmqctl delete_queue runpod"):
        QuorumQueue("runpod").declare(channel=channel)


def test_a_callers_queue_that_exists_is_not_declared() -> None:
    channel: Any = Channel()
    CallersQueue("theirs").declare(channel=channel)
    assert channel.declared == []
    assert [call["passive"] for call in channel.probes[0].declared] == [True]


def test_a_callers_queue_that_is_missing_is_made_as_its_app_would() -> None:
    channel: Any = Channel(error=NotFound("no queue"))
    CallersQueue("theirs", queue_arguments={"x-queue-type": "quorum"}).declare(channel=channel)
    assert [(call["queue"], call["arguments"]) for call in channel.declared] == [("theirs", {"x-queue-type": "quorum"})]


def test_our_queues_are_mended_and_others_left(app: Celery) -> None:
    theirs, broadcast = Queue("theirs"), Broadcast("all")
    declare = [Queue("runpod"), Queue("runpod.deliver"), theirs, broadcast]
    mend_declarations(app, declare)
    assert [type(one) for one in declare] == [QuorumQueue, QuorumQueue, Queue, Broadcast]
    assert declare[2] is theirs


def test_on_redis_nothing_is_mended() -> None:
    plain = Celery("theirs", broker="redis://127.0.0.1:1/0", set_as_current=False)
    declare = [Queue("runpod")]
    mend_declarations(plain, declare)
    declare_followers(plain, declare, ["images"])
    assert [type(one) for one in declare] == [Queue]


def test_what_follows_is_declared_by_the_one_who_knows_it(app: Celery) -> None:
    app.conf.task_queues = [Queue("images", queue_arguments={"x-queue-type": "quorum"})]
    declare: list[Any] = [QuorumQueue("runpod")]
    declare_followers(app, declare, ["images", "runpod", "images", "runpod.deliver"])
    assert [(type(one), one.name) for one in declare[1:]] == [(CallersQueue, "images"), (QuorumQueue, "runpod.deliver")]
    assert declare[1].queue_arguments == {"x-queue-type": "quorum"}


def test_a_message_that_says_declare_nothing_is_obeyed(app: Celery) -> None:
    declare: tuple[Any, ...] = ()
    mend_declarations(app, declare)
    declare_followers(app, declare, ["images"])
    assert declare == ()


@pytest.mark.parametrize("given", [[AMQP, "amqp://b//"], f"{AMQP};amqp://b//", AMQP])
def test_the_first_of_several_brokers_counts(given: Any) -> None:
    assert broker_of(Celery("many", broker=given, set_as_current=False)) == AMQP


def test_the_workers_queues_are_quorum_queues_on_rabbitmq_alone() -> None:
    on_rabbit = celery_config(load_settings({"RUNPOD_BROKER_URL": AMQP}))
    assert [(type(one), one.exchange.type) for one in on_rabbit["task_queues"]] == [(QuorumQueue, "topic")] * 3
    assert on_rabbit["broker_transport_options"] == {"confirm_publish": True}
    assert {type(one) for one in celery_config(load_settings({}))["task_queues"]} == {Queue}


@pytest.mark.parametrize(("asked", "on_rabbit"), [(0.2, 1.0), (1.0, 1.0), (1.01, 2.0), (44.5, 45.0)])
def test_rabbitmq_delays_by_whole_seconds(asked: float, on_rabbit: float) -> None:
    assert delayed_s(Bench(RUNPOD_BROKER_URL=AMQP).services, asked) == on_rabbit
    assert delayed_s(Bench().services, asked) == asked


def test_a_check_is_noted_for_when_rabbitmq_delivers_it() -> None:
    from tasks.plan import plan_check

    bench = Bench(RUNPOD_BROKER_URL=AMQP)
    bench.app.runpod_services = lambda: bench.services
    plan_check(bench.services, "e1", NOW + 0.3)
    assert float(bench.redis.get(bench.store.keys.next_check_at("e1"))) == NOW + 1.0
