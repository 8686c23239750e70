"""Whether this process's Celery app and the RunPod workers share broker, result backend and job store.

The workers write one token into all three places through their own connections
(`celery_app/watchdog/agreement_writer.py`), and renew it every few seconds. A caller looks for it through its own
connections. URLs are not compared, because one place may have many: another host name, a proxy, a prefix.

- The same token in all three places: they agree. This is remembered for a minute.
- Missing in one place at two looks, while a worker renews it in another: `ConfigurationMismatch`.
- Missing everywhere: no worker was ever up. The call is published, and a warning says so once.
- A place that cannot be read (away, no rights, another kind of broker) is left out.

Called by ``caller_task.py`` for each call, by Django's checks, and by doctor.
"""

from __future__ import annotations

import json
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from amqp.exceptions import NotFound
from celery import Celery
from celery.backends.base import DisabledBackend
from celery.backends.rpc import RPCBackend

from celery_runpod._connect import broker_connection, broker_of, client_settings, is_redis, mask_url, store_url
from celery_runpod._protocol import RUN
from celery_runpod._store.store import store_of
from celery_runpod.api._durations import in_seconds
from celery_runpod.errors import ConfigurationMismatch

log = logging.getLogger(__name__)

STORE, BACKEND, BROKER = "job store", "result backend", "broker"
PLACES = (STORE, BACKEND, BROKER)
RESULT_SERIALIZER = "result_serializer"
SHOWN = "RUNPOD_AGREEMENT"
"""The state of the token's record in the result backend. Celery does not overwrite a record in one of its final
states."""
FIELD = "token"

PRIORITIES = {"sep": "\x06\x16", "priority_steps": [0, 3, 6, 9]}
"""kombu's own. On Redis it keeps messages with a priority in a list of its own, named by these."""

AGREED_S = 60.0
MISMATCH_S = 10.0
OPEN_S = 5.0
"""How long a comparison is believed: both agree; they do not; nothing is known."""
MOST_PAUSE_S = 10.0


@dataclass(frozen=True)
class Token:
    """What the workers write into each place: an id for this set of places, their masked URLs, when the token was renewed
    (s since 1970), how often it is renewed (s), and when the workers' results expire (s; None: never)."""

    id: str
    broker: str
    backend: str
    store: str
    at: float
    every_s: float
    result_expires_s: float | None = None

    def place(self, role: str) -> str:
        return {STORE: self.store, BACKEND: self.backend, BROKER: self.broker}[role]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, given: Any) -> Token | None:
        """A token from JSON, as text or parsed; None if there is none, or if another version wrote it."""
        try:
            found = json.loads(given) if isinstance(given, str | bytes) else given
            return cls(**found) if isinstance(found, dict) else None
        except (ValueError, TypeError):
            return None


Found = dict[str, Token | None]
"""Role -> its token, or None if it has none. A place that could not be read is left out."""


@dataclass(frozen=True)
class Agreement:
    """`agrees`: None if it is not known; `worker_seen`: whether any token was found."""

    agrees: bool | None
    worker_seen: bool
    problems: tuple[ConfigurationMismatch, ...] = ()
    result_expires_s: float | None = None


def record_id(namespace: str) -> str:
    """The task id of the record in the result backend, and the name of the hash in a Redis broker."""
    return f"{namespace}.agreement"


def exchange_name(namespace: str, token_id: str) -> str:
    """The exchange that stands for the token on RabbitMQ, which stores no values."""
    return f"{namespace}.agreement.{token_id}"


def refuse_mismatch(app: Celery, *, ignore_result: bool) -> None:
    """Refuse a call whose message or result would never arrive.

    Args:
        ignore_result: the call needs no result backend.

    Raises:
        ConfigurationMismatch: the app and the workers do not share a place or a setting.
    """
    agreement = _remembered(app)
    for problem in agreement.problems:
        if not (ignore_result and problem.setting in (BACKEND, RESULT_SERIALIZER)):
            raise ConfigurationMismatch(problem.setting, problem.here, problem.workers)


def compare(app: Celery, sleep: Callable[[float], None] = time.sleep) -> Agreement:
    """Look for the workers' token through this app's own connections. If it is missing, look again: a Redis that was
    flushed has it again after the next renewal.

    Call `check_reachable` first.
    """
    if refused := tuple(unread_content(app)):
        return Agreement(False, False, refused)
    first = look(app)
    tokens = [token for token in first.values() if token is not None]
    if not tokens:
        return Agreement(None, False)
    if _same(first):
        return Agreement(True, True, (), tokens[0].result_expires_s)
    sleep(min(2 * tokens[0].every_s + 0.5, MOST_PAUSE_S))
    second = look(app)
    # A token that is not renewed belongs to workers that are gone, so its absence elsewhere means nothing.
    renewed = [token for role, token in second.items() if token is not None and token != first.get(role)]
    if not renewed:
        return Agreement(None, True)
    theirs = renewed[0]
    problems = tuple(
        ConfigurationMismatch(role, place_of(app, role), theirs.place(role))
        for role, token in second.items()
        if token is None or token.id != theirs.id
    )
    return Agreement(not problems, True, problems, theirs.result_expires_s)


def unread_content(app: Celery) -> list[ConfigurationMismatch]:
    """The settings with which this app cannot read what the RunPod workers send or store."""
    accepted = {"accept_content": app.conf.accept_content}
    if app.conf.result_accept_content is not None:
        accepted["result_accept_content"] = app.conf.result_accept_content
    unread = [
        ConfigurationMismatch(name, ", ".join(sorted(map(str, given or ()))) or "empty", "json")
        for name, given in accepted.items()
        if not {"json", "application/json"} & set(given or ())
    ]
    if app.conf.result_serializer not in ("json", "application/json"):
        # A record does not say how it is written, so each reader decodes it by its own setting.
        unread.append(ConfigurationMismatch(RESULT_SERIALIZER, str(app.conf.result_serializer), "json"))
    return unread


def refuse_other_priorities(app: Celery, signatures: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a call that has a priority, or is followed by a task that has one, if this app keeps priorities in other
    lists of Redis than the RunPod workers, which keep them as kombu does: nobody would read the message.

    Raises:
        ConfigurationMismatch: names `broker_transport_options`.
    """
    given = app.conf.broker_transport_options or {}
    here = {name: given.get(name) or kombus for name, kombus in PRIORITIES.items()}
    here["priority_steps"] = list(here["priority_steps"])
    if here == PRIORITIES or not is_redis(broker_of(app)):
        return
    for one in signatures:
        task = None if one["task"] == RUN else app.tasks.get(one["task"])
        if (one.get("options") or {}).get("priority") or getattr(task, "priority", None):
            raise ConfigurationMismatch("broker_transport_options", here, PRIORITIES)


def look(app: Celery) -> Found:
    """The token in each of the three places that can be read."""
    namespace, found = client_settings().namespace, Found()
    # The broker last: RabbitMQ can only be asked for a token whose id is known.
    for role, read in ((STORE, _in_store), (BACKEND, _in_backend), (BROKER, _in_broker)):
        try:
            found[role] = read(app, namespace, found)
        except Exception as error:
            # An error stops no call: this place is left out.
            log.debug("the %s cannot be compared with the RunPod workers': %s", role, error)
    return found


def place_of(app: Celery, role: str) -> str:
    """The URL that this app has for a role, without secrets."""
    if role == STORE:
        return mask_url(store_url(app))
    given = broker_of(app) if role == BROKER else app.conf.result_backend
    name = "broker_transport_options" if role == BROKER else "result_backend_transport_options"
    prefix = (app.conf.get(name) or {}).get("global_keyprefix")
    shown = mask_url(given) if isinstance(given, str) and given else "not set"
    return f"{shown} with global_keyprefix {prefix!r}" if prefix else shown


def _same(found: Found) -> bool:
    return len({None if token is None else token.id for token in found.values()}) == 1


def _in_store(app: Celery, namespace: str, found: Found) -> Token | None:
    reader = store_of(app)
    return Token.parse(reader.redis.get(reader.keys.agreement()))


def _in_backend(app: Celery, namespace: str, found: Found) -> Token | None:
    if isinstance(app.backend, DisabledBackend | RPCBackend):
        # The first stores nothing. Reading the second, a queue of each process, would remove results from it.
        return None
    return Token.parse(app.backend.get_task_meta(record_id(namespace), cache=False).get("result"))


def _in_broker(app: Celery, namespace: str, found: Found) -> Token | None:
    with broker_connection(app) as connection:
        kind = connection.transport.driver_type
        if kind == "redis":
            # A hash, because kombu adds `global_keyprefix` to the keys of some commands only.
            return Token.parse(connection.default_channel.client.hget(record_id(namespace), FIELD))
        if kind != "amqp":
            raise LookupError(f"a {kind} broker is not looked into")
        token = next((token for token in found.values() if token is not None), None)
        if token is None:
            raise LookupError("no token to ask for")
        try:
            with connection.channel() as channel:
                channel.exchange_declare(exchange_name(namespace, token.id), "fanout", passive=True)
        except NotFound:
            return None
        return token


_known: weakref.WeakKeyDictionary[Celery, tuple[Any, float, Agreement]] = weakref.WeakKeyDictionary()
_warned: set[str] = set()


def _remembered(app: Celery) -> Agreement:
    settings = client_settings()
    backend, store = str(app.conf.result_backend), store_url(app, settings)
    key = (os.getpid(), settings.namespace, broker_of(app), backend, store)
    known = _known.get(app)
    if known is not None and known[0] == key and time.monotonic() < known[1]:
        return known[2]
    agreement = compare(app)
    lasts_s = {True: AGREED_S, False: MISMATCH_S, None: OPEN_S}[agreement.agrees]
    _known[app] = (key, time.monotonic() + lasts_s, agreement)
    if agreement.agrees is None and not agreement.worker_seen:
        _warn_once(
            f"no RunPod worker of namespace {key[1]!r} was ever up on the broker, result backend and job store of this "
            "process: calls wait until one is (`celery-runpod worker`, `celery-runpod doctor`)"
        )
    here_s = in_seconds(app.conf.result_expires)
    if here_s and agreement.result_expires_s and here_s < agreement.result_expires_s:
        _warn_once(
            f"result_expires is {here_s:g} s here and {agreement.result_expires_s:g} s in the RunPod workers: chords and "
            "results of this process's own tasks are gone before those of endpoints"
        )
    return agreement


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        log.warning(text)
