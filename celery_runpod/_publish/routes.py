"""Writes the caller's own routes, and ids for links, into the tasks that follow an endpoint.

The worker that finishes one step of a chain publishes the next one, by the worker's own routes. So, when the caller
publishes, the queue that the caller's app would choose is written into every following signature that has none. A message
that carries no call of an endpoint is not changed.

Importing `celery_runpod` connects this: import it in every process that publishes.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from celery import Celery, current_app, current_task
from celery._state import _get_active_apps
from celery.signals import after_task_publish, before_task_publish
from kombu.transport.virtual.exchange import TopicExchange

from celery_runpod._protocol import BEGUN_AT, CHECK_STATUS, ENDED_QUEUE, ISSUED_AT, JOB_ENDED, RUN
from celery_runpod._publish import job_ends
from celery_runpod._publish.errbacks import wrap
from celery_runpod._publish.outbox_copies import begin, begun, keep
from celery_runpod._publish.rabbitmq import confirm, declare_followers, mend_declarations

_FOLLOWS = ("link", "link_error", "chain", "chord")
_NEVER_BEGINS = ("link", "chain", "chord")
"""What does not begin when a task fails; a chord's body does not if any of its members has failed."""
ADDRESS = ("exchange", "exchange_type", "routing_key")
TOPIC = TopicExchange(None)
_CANVAS = frozenset({"celery.chain", "celery.group", "celery.chord"})


def signatures_after(signature: MutableMapping[str, Any]) -> Iterator[MutableMapping[str, Any]]:
    """Every signature that follows this one: links, errbacks, chain and chord, with the signatures within them."""
    for child in _children(signature):
        yield child
        yield from signatures_after(child)


def link_signatures(signature: MutableMapping[str, Any]) -> Iterator[MutableMapping[str, Any]]:
    """Every link and errback of this signature and of those that follow it. Celery gives them no id."""
    for one in (signature, *signatures_after(signature)):
        yield from _listed((one.get("options") or {}).get("link"))
        yield from _listed((one.get("options") or {}).get("link_error"))


def never_begin(signature: MutableMapping[str, Any]) -> Iterator[MutableMapping[str, Any]]:
    """Every signature that follows this one, and that does not begin if it fails. Not its errbacks: the same one may hang
    on each step of a chain, and begins."""
    for child in _children(signature, _NEVER_BEGINS):
        yield child
        yield from never_begin(child)


def _fail_at_a_runpod_worker(message: MutableMapping[str, Any]) -> Iterator[MutableMapping[str, Any]]:
    """Every signature whose errbacks a RunPod worker may publish: the calls, and the bodies of chords, which fail with
    any of their members."""
    for one in (message, *signatures_after(message)):
        if one["task"] == RUN:
            yield one
        bodies = (one.get("kwargs") or {}).get("body") if one["task"] == "celery.chord" else None
        for body in (*_listed((one.get("options") or {}).get("chord")), *_listed(bodies)):
            yield body
            yield from _children(body, ())


def _children(
    signature: MutableMapping[str, Any], following: Iterable[str] = _FOLLOWS
) -> Iterator[MutableMapping[str, Any]]:
    options, kwargs = signature.get("options") or {}, signature.get("kwargs") or {}
    for name in following:
        yield from _listed(options.get(name))
    if signature.get("task") in _CANVAS:
        for name in ("tasks", "header", "body"):
            yield from _listed(kwargs.get(name))


def _listed(value: Any) -> Iterator[MutableMapping[str, Any]]:
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, MutableMapping) and "task" in one:
            yield one


def pin(app: Celery, signature: MutableMapping[str, Any]) -> None:
    """Write the queue, the priority and the serializer that this app would use into one signature."""
    options = signature.setdefault("options", {})
    if signature.get("task") in _CANVAS:
        return
    name = signature["task"]
    task = app.tasks.get(name)
    own = {k: v for k, v in (task._get_exec_options() if task is not None else {}).items() if v is not None}
    serializer = own.get("serializer") or app.conf.task_serializer
    if serializer != "json":
        # Its worker may accept nothing else. The RunPod worker can send it, though it would not accept it.
        options.setdefault("serializer", serializer)
    if options.get("queue"):
        return
    route = app.amqp.router.route({**own, **options}, name, signature.get("args"), signature.get("kwargs"), task)
    by_key = options.get("exchange") or options.get("routing_key") or not route.get("queue")
    queue = _queue_bound(app, route) if by_key else route.get("queue")
    if queue is not None:
        # A RunPod worker knows neither the app's exchanges nor their kinds.
        for place in ADDRESS:
            options.pop(place, None)
        options["queue"] = getattr(queue, "name", queue)
    elif by_key:
        options.update({place: getattr(route[place], "name", route[place]) for place in ADDRESS if route.get(place)})
    if own.get("priority") is not None:
        options.setdefault("priority", own["priority"])


def _queue_bound(app: Celery, route: Mapping[str, Any]) -> Any:
    """The queue of this app that gets what is published with the exchange and the routing key of this route; None where
    no queue of this app does."""
    given = route.get("exchange") or app.conf.task_default_exchange or app.conf.task_default_queue
    exchange, key = getattr(given, "name", given), route.get("routing_key") or app.conf.task_default_routing_key
    for queue in app.amqp.queues.values():
        bound = str(queue.routing_key)
        if queue.exchange is None or queue.exchange.name != exchange:
            continue
        kind = queue.exchange.type
        if kind == "fanout" or bound == key or (kind == "topic" and re.match(TOPIC.key_to_pattern(bound), str(key))):
            return queue
    return None


def queues_of(signatures: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The queues that these signatures name."""
    for signature in signatures:
        queue = (signature.get("options") or {}).get("queue")
        if isinstance(queue, str):
            yield queue


def publishing_app(declare: Any) -> Celery:
    """The app that publishes. Celery's signal does not name it, but holds the queue that it declares. In a process with
    several apps the current one may be another."""
    current: Celery = current_app._get_current_object()
    queue = declare[0] if declare else None
    for app in (current, *_get_active_apps()):
        # Read from `vars`, because `app.amqp` would create the queues of an app that never published.
        amqp = vars(app).get("amqp")
        if queue is not None and amqp is not None and amqp.queues.get(queue.name) is queue:
            return app
    return current


@before_task_publish.connect
def _on_publish(
    sender: str | None = None,
    body: Any = None,
    headers: Any = None,
    properties: Any = None,
    declare: Any = None,
    **_: Any,
) -> None:
    # Before the declarations change: the app is found by them.
    app = publishing_app(declare)
    if sender == RUN and isinstance(headers, dict):
        begin(app, str(headers.get("id")), properties or {})
    mend_declarations(app, declare)
    carries_a_call = _pin_what_follows(app, sender, body, declare)
    # A lost check is planned again, so it need not wait for a confirm.
    confirm(declare, properties, wait=sender != CHECK_STATUS)
    if not carries_a_call or not isinstance(headers, dict):
        return
    headers.setdefault(BEGUN_AT, _begun_at())
    if sender == RUN:
        # RabbitMQ would drop an expired message, and its task would never end.
        (properties or {}).pop("expiration", None)
        headers.setdefault(ISSUED_AT, time.time())  # noqa: TID251 - the edge: it is published now
        if (ended_queue := _ended_queue(app)) is not None:
            headers.setdefault(ENDED_QUEUE, ended_queue)


@after_task_publish.connect(sender=RUN)
def _on_published(body: Any = None, headers: Any = None, exchange: Any = None, routing_key: str = "", **_: Any) -> None:
    publishing = begun(str(headers["id"])) if isinstance(headers, dict) and ISSUED_AT in headers else None
    if publishing is not None:
        place = getattr(exchange, "name", exchange) or ""
        keep(publishing, headers, body, place, routing_key, float(headers[ISSUED_AT]))


def _ended_queue(app: Celery) -> str | None:
    """The queue of the caller's own worker for `runpod.job_ended`; None if this process does not ask for ends."""
    if not job_ends.wanted(app):
        return None
    message: dict[str, Any] = {"task": JOB_ENDED}
    pin(app, message)
    return str(message["options"].get("queue") or app.conf.task_default_queue)


def _pin_what_follows(app: Celery, sender: str | None, body: Any, declare: Any) -> bool:
    """If the message is a call of an endpoint, or one follows it, write routes and ids into all that follows it. Returns
    whether it is so."""
    if not isinstance(body, tuple) or len(body) != 3 or not isinstance(body[2], dict):
        return False  # Celery's first protocol has no canvas
    embed = body[2]
    # As a signature, so that the same functions serve messages and continuations. Copied, because several calls may share
    # one link object, and each call's link needs its own id.
    names = {"callbacks": "link", "errbacks": "link_error", "chain": "chain", "chord": "chord"}
    copied = {name: _copy(embed.get(name)) for name in names}
    message: dict[str, Any] = {"task": sender, "options": {names[name]: value for name, value in copied.items()}}
    after = list(signatures_after(message))
    if sender != RUN and not any(one["task"] == RUN for one in after):
        return False
    ended_queue = _ended_queue(app)
    for signature in after:
        pin(app, signature)
        if ended_queue is not None and signature["task"] == RUN:
            job_ends.ask(signature, ended_queue)
    for signature in _fail_at_a_runpod_worker(message):
        wrap(app, signature)
    declare_followers(app, declare, (*queues_of(after), *([ended_queue] if ended_queue else [])))
    for link in link_signatures(message):
        link["options"].setdefault("task_id", str(uuid.uuid4()))
    embed.update({name: message["options"][option] for name, option in names.items()})
    return True


def _begun_at() -> float:
    """When the chain of the publishing task began; else now."""
    request = current_task.request if current_task else None
    found = request and (request.get(BEGUN_AT) or (request.headers or {}).get(BEGUN_AT))
    return float(found or time.time())  # noqa: TID251 - the edge: it is published now


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(one) for name, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list | tuple) else value
