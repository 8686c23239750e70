"""What is declared with a message on RabbitMQ, and when a publish counts: without a RabbitMQ."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed, RecoverableChannelError
from celery import Celery
from kombu.common import Broadcast
from kombu.connection import PooledConnection
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from celery_runpod import Endpoint, JobResult
from celery_runpod._asking import ask
from celery_runpod._connect import broker_of
from celery_runpod._protocol import CHECK_STATUS
from celery_runpod._publish.confirms import CONFIRMS, end_when_blocked
from celery_runpod._publish.rabbitmq import (
    CallersQueue,
    QuorumQueue,
    confirm,
    declare_followers,
    mend_declarations,
    quorum_arguments,
)
from celery_runpod._webhooks.receive import receive
from celery_runpod._webhooks.signed_urls import WebhookTarget
from celery_runpod.errors import BrokerUnavailable, ConfigurationError
from config.celery_config import celery_config
from config.settings import load_settings
from tasks.publish_check import check_times, plan_check
from tests.builders import NOW, Bench

AMQP = "amqp://guest:guest@127.0.0.1:1//"


class Channel:
    """What kombu declares and publishes on. `answers` are told, one for each look, once a message was sent."""

    def __init__(self, version: str = "3.13.7", error: Exception | None = None) -> None:
        self.declared: list[dict[str, Any]] = []
        self.published: list[dict[str, Any]] = []
        self.probes: list[Channel] = []
        self.error = error
        self.collected = self.selected = 0
        self.events: dict[str, set[Any]] = defaultdict(set)
        self._confirm_selected = False
        self.answers: list[Any] = []
        self.connection = SimpleNamespace(
            server_properties={"version": version},
            client=SimpleNamespace(declared_entities=set()),
            confirm_publish=False,
            on_blocked=None,
            channel=self._probe,
            collect=self._collect,
            drain_events=self._tell,
        )

    def queue_declare(self, **call: Any) -> None:
        self.declared.append(call)
        if self.error is not None and (call.get("passive") or not isinstance(self.error, NotFound)):
            raise self.error

    def confirm_select(self, nowait: bool) -> None:
        assert nowait
        self.selected += 1

    def _basic_publish(self, message: Any, **call: Any) -> None:
        self.published.append(call)

    def _tell(self, timeout: float) -> None:
        answer = self.answers.pop(0) if self.answers else TimeoutError()
        if isinstance(answer, Exception):
            raise answer
        event, *told = answer
        for listener in self.events[event] or [getattr(self.connection, event)]:
            listener(*told)

    def prepare_queue_arguments(self, arguments: Any, **_: Any) -> Any:
        return arguments

    def close(self) -> None:
        pass

    def _probe(self) -> Channel:
        self.probes.append(Channel(error=self.error))
        return self.probes[-1]

    def _collect(self) -> None:
        self.collected += 1


def ack(number: int) -> tuple[Any, ...]:
    return ("basic_ack", number, False)


RETURNED = ("basic_return", Exception("NO_ROUTE"), "", "runpod", None)


def confirming(*answers: Any) -> Any:
    channel = Channel()
    for _ in range(3):
        CONFIRMS.declare(channel=channel)
    channel.answers = list(answers)
    return channel


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


def test_no_limit_of_deliveries_on_rabbitmq_4() -> None:
    channel: Any = Channel("4.1.0")
    QuorumQueue("runpod").declare(channel=channel)
    assert [call["arguments"] for call in channel.declared] == [{"x-queue-type": "quorum", "x-delivery-limit": -1}]


def test_only_what_must_not_be_lost_waits_for_its_confirm() -> None:
    channel = confirming(ack(1), ack(2))
    channel.basic_publish("event")
    channel.basic_publish("call", mandatory=True)
    assert (channel.selected, channel.answers, channel.collected) == (1, [], 0)
    assert [one.get("mandatory") for one in channel.published] == [None, True]


def test_what_is_published_to_an_exchange_can_ask_for_its_confirm() -> None:
    channel = confirming()
    with pytest.raises(OperationalError, match="no confirm within 2 s"):
        channel.basic_publish("fanout", confirm_timeout=2.0)


def test_an_app_that_wants_all_confirmed_has_all_confirmed_and_its_earlier_messages_are_not_counted() -> None:
    channel: Any = Channel()
    channel._confirm_selected = channel.connection.confirm_publish = True
    CONFIRMS.declare(channel=channel)
    channel.answers = [ack(8), ack(9)]
    channel.basic_publish("theirs")
    channel.basic_publish("call", mandatory=True)
    assert (channel.selected, channel.answers) == (0, [])


def test_a_refused_message_is_an_error_of_the_broker() -> None:
    channel = confirming(("basic_nack", 1, False))
    with pytest.raises(OperationalError, match="refused"):
        channel.basic_publish("call", mandatory=True)


def test_after_a_missing_confirm_the_connection_is_not_used_again() -> None:
    channel = confirming()
    with pytest.raises(OperationalError, match="no confirm within 5 s"):
        channel.basic_publish("call", mandatory=True)
    assert channel.collected == 1


def test_a_rabbitmq_that_says_that_it_is_blocked_is_not_waited_for() -> None:
    channel = confirming(("on_blocked", "low on memory"), ack(1))
    with pytest.raises(OperationalError, match="short of memory or disk"):
        channel.basic_publish("call", mandatory=True)
    assert (channel.answers, channel.collected) == ([ack(1)], 1)


def test_on_a_blocked_connection_nothing_is_declared_any_more() -> None:
    channel = confirming(("on_blocked", "low on memory"))
    with pytest.raises(OperationalError, match="short of memory or disk"):
        CONFIRMS.declare(channel=channel)
    assert channel.collected == 1


def test_trouble_of_a_message_that_did_not_wait_is_not_that_of_the_next_one() -> None:
    channel = confirming(ack(1), NotFound("no exchange"), ack(1))
    channel.basic_publish("call", mandatory=True)
    channel.basic_publish("event")
    CONFIRMS.declare(channel=channel)
    channel._confirm_selected = False
    channel.basic_publish("call", mandatory=True)
    assert channel.answers == []


@pytest.mark.parametrize(("client", "ended"), [(PooledConnection.__new__(PooledConnection), 1), (object(), 0)])
def test_a_blocked_connection_of_a_workers_pool_is_ended_and_no_other(client: Any, ended: int) -> None:
    channel = Channel()
    channel.connection.client = client
    end_when_blocked(channel.connection)
    if ended:
        with pytest.raises(OperationalError, match="short of memory or disk"):
            channel.connection.on_blocked("low on memory")
    assert (channel.collected, channel.connection.on_blocked is not None) == (ended, bool(ended))


def test_one_that_was_blocked_and_is_well_again_is_waited_for() -> None:
    channel = confirming(("on_blocked", "low on memory"), ("on_unblocked",), ack(1))
    channel._tell(0.0)
    channel._tell(0.0)
    channel.basic_publish("call", mandatory=True)
    assert (channel.answers, channel.collected) == ([], 0)


@pytest.mark.parametrize("answers", [[RETURNED, ack(1)], [NotFound("no exchange")]], ids=["no queue", "no exchange"])
def test_a_message_that_no_queue_took_is_declared_and_published_again(answers: list[Any]) -> None:
    """By kombu, and in a worker by Celery: these try errors of such classes again."""
    channel = confirming(*answers)
    channel.connection.client.declared_entities.add("a queue that was deleted meanwhile")
    with pytest.raises(OperationalError) as raised:
        channel.basic_publish("call", mandatory=True)
    assert isinstance(raised.value, RecoverableChannelError)
    assert (channel.connection.client.declared_entities, channel.collected) == (set(), 0)


def test_numbers_begin_anew_on_a_channel_that_was_opened_again() -> None:
    channel = confirming(ack(1), ack(1))
    channel.basic_publish("call", mandatory=True)
    channel._confirm_selected = False
    channel.basic_publish("call", mandatory=True)
    assert (channel.selected, channel.answers) == (2, [])


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


def test_a_queue_of_ours_is_reached_as_its_app_publishes_to_it(app: Celery) -> None:
    """Celery's guide for quorum queues says topic exchanges; by default it publishes to the queue's name."""
    default = [app.amqp.queues["runpod"]]
    mend_declarations(app, default)
    assert default[0].exchange.name == ""
    app.conf.update(task_create_missing_queue_type="quorum", task_create_missing_queue_exchange_type="topic")
    del app.amqp.queues
    topic = [app.amqp.queues["runpod"]]
    mend_declarations(app, topic)
    assert (topic[0].exchange.name, topic[0].exchange.type, topic[0].routing_key) == ("runpod", "topic", "runpod")


def test_on_redis_nothing_is_mended() -> None:
    plain = Celery("theirs", broker="redis://127.0.0.1:1/0", set_as_current=False)
    declare, properties = [Queue("runpod")], {}
    mend_declarations(plain, declare)
    declare_followers(plain, declare, ["images"])
    confirm(declare, properties, wait=True)
    assert ([type(one) for one in declare], properties) == ([Queue], {})


@pytest.mark.parametrize(
    ("declare", "confirmed", "mandatory"),
    [
        ([QuorumQueue("runpod")], True, True),
        ([Queue("theirs"), QuorumQueue("runpod")], True, True),
        ([CallersQueue("theirs")], True, True),
        ([Broadcast("all"), QuorumQueue("runpod")], True, False),
        ([Queue("theirs")], False, False),
        ([], False, False),
        (None, False, False),
    ],
)
def test_messages_of_ours_and_those_that_carry_a_call_are_confirmed(
    declare: Any, confirmed: bool, mandatory: bool
) -> None:
    properties: dict[str, Any] = {}
    for _ in range(2):
        confirm(declare, properties, wait=True)
    assert (declare or []).count(CONFIRMS) == confirmed
    assert properties == ({"mandatory": True} if mandatory else {})


def _publish(app: Celery, name: str, **options: Any) -> dict[str, Any]:
    """What kombu is told to publish."""
    told: dict[str, Any] = {}
    producer: Any = SimpleNamespace(publish=lambda body, **call: told.update(call), connection=None)
    app.conf.task_publish_retry = False
    message = app.amqp.create_task_message("t1", name, (), {})
    app.amqp.send_task_message(producer, name, message, **options)
    return told


def test_rabbitmq_does_not_throw_a_call_away_that_expires(app: Celery) -> None:
    told = _publish(app, "runpod.run", queue="runpod", expiration=3.0)
    assert "expiration" not in told
    assert told["mandatory"] is True
    assert _publish(app, "runpod.health", queue="runpod.deliver", expiration=3.0)["expiration"] == 3.0


def test_the_worker_waits_for_the_confirms_of_all_but_checks_and_events() -> None:
    app = Celery("worker", amqp="celery_app.overrides.callers_queues:RabbitAMQP", set_as_current=False)
    app.config_from_object(celery_config(load_settings({"RUNPOD_BROKER_URL": AMQP})))
    told = {
        "finish": _publish(app, "runpod.finish", queue="runpod.deliver"),
        "next": _publish(app, "theirs.next", queue="images"),
        "fanout": _publish(app, "theirs.fanout", exchange="news", routing_key="all"),
        "delayed": _publish(app, "runpod.check_status", exchange="celery_delayed_27", routing_key="0.runpod.status"),
        "check": _publish(app, "runpod.check_status", queue="runpod.status"),
    }
    confirmed = {name for name, one in told.items() if CONFIRMS in (one["declare"] or [])}
    assert confirmed == {"finish", "next", "fanout", "check"}
    assert {name for name, one in told.items() if one.get("mandatory")} == {"finish", "next"}
    assert {name for name, one in told.items() if one.get("confirm_timeout")} == {"fanout"}


@pytest.mark.parametrize("error", [AccessRefused("not yours"), NotFound("no exchange"), PreconditionFailed("another")])
def test_what_rabbitmq_refuses_is_told_in_one_clear_error(
    app: Celery, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise error

    for module in ("_publish.caller_task", "_asking", "_cancelling", "_webhooks.receive"):
        monkeypatch.setattr(f"celery_runpod.{module}.check_reachable", lambda *_, **__: None)
    monkeypatch.setattr("celery_runpod._store.cancels.Cancels.wish_cancel", lambda *_, **__: None)
    monkeypatch.setattr("celery_runpod._store.id_index.IdIndex.is_job", lambda *_: False)
    monkeypatch.setattr("celery_runpod._webhooks.receive.verify", lambda *_: WebhookTarget("e1", "t1", 1))
    monkeypatch.setattr("celery_runpod._store.store.JobStore.hint", lambda *_: "publish")
    monkeypatch.setenv("RUNPOD_WEBHOOK_SECRET", "a-secret-of-the-tests-0123456789")
    monkeypatch.setattr(app, "send_task", refused)
    monkeypatch.setattr("celery_runpod._publish.caller_task.refuse_mismatch", lambda *_, **__: None)
    with pytest.raises(BrokerUnavailable):
        Endpoint("e1", app=app).delay(a=1)
    with pytest.raises(BrokerUnavailable):
        ask("runpod.health", ("e1",), app=app)
    # It was kept.
    JobResult("t1", app=app).cancel()
    assert receive({}, lambda _: b"{}", app=app)[0] == 503


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
    # An event would wait for its confirm, without end while RabbitMQ is short of memory.
    assert "confirm_publish" not in on_rabbit["broker_transport_options"]
    assert {type(one) for one in celery_config(load_settings({}))["task_queues"]} == {Queue}


@pytest.mark.parametrize(("asked", "on_rabbit"), [(0.2, 1.0), (1.0, 1.0), (1.01, 2.0), (44.5, 45.0)])
def test_rabbitmq_delays_by_whole_seconds(asked: float, on_rabbit: float) -> None:
    for bench, delay in ((Bench(RUNPOD_BROKER_URL=AMQP), on_rabbit), (Bench(), asked)):
        publish_at = bench.store.plan_check("e1", NOW + asked, NOW, check_times(bench.services))
        assert publish_at == pytest.approx(NOW + delay)


@pytest.mark.parametrize("asked", [-5.0, 0.0, 0.3, 1.0, 44.5])
def test_a_countdown_is_whole_on_rabbitmq_at_any_time_of_the_clock(
    asked: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis keeps a time to the microsecond, the clock of a process is finer: a countdown of 0.9999998 s would be none
    to Celery, which refuses it."""
    bench = Bench(RUNPOD_BROKER_URL=AMQP)
    countdowns: list[Any] = []
    monkeypatch.setattr(bench.app.tasks[CHECK_STATUS], "apply_async", lambda *_, **o: countdowns.append(o["countdown"]))
    for n in range(50):
        bench.now = NOW + n * 0.12345678
        plan_check(bench.services, f"e{n}", bench.now + asked)
    assert countdowns == [math.ceil(asked) if asked > 0 else None] * 50


def test_a_check_that_is_due_now_is_no_countdown_message(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    countdowns: list[Any] = []
    monkeypatch.setattr(bench.app.tasks[CHECK_STATUS], "apply_async", lambda *_, **o: countdowns.append(o["countdown"]))
    for n in range(50):
        bench.now = NOW + n * 0.12345678
        plan_check(bench.services, f"e{n}", bench.now)
    assert countdowns == [None] * 50


def test_a_check_is_noted_for_when_rabbitmq_delivers_it() -> None:
    bench = Bench(RUNPOD_BROKER_URL=AMQP)
    bench.app.runpod_services = lambda: bench.services
    plan_check(bench.services, "e1", NOW + 0.3)
    assert float(bench.redis.hget(bench.store.keys.next_check_at("e1"), "at")) == NOW + 1.0
