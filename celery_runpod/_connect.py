"""Which broker, result backend and store a process uses, of what kind they are, and how each is reached.

The environment is read with the standard library alone; no API key is read. The worker's own settings, with bounds and
profiles, are in `config/settings.py`.

How long a process waits for Redis:

    CALL      before each call of a web process     2 s to connect, 3 s for an answer; no retry
    READ      what a web process reads and writes   2 s, 5 s; redis-py's own retries, about 3 s of them on a cluster and
                                                    behind Sentinel
    COMMAND   a command in a terminal               3 s, 4 s; no retry
    STORE     a worker's job store                  3 s, 5 s; retries for about 12 s: longer than Redis takes to restart,
                                                    shorter than any lease. Every script may be repeated

Celery's own `apply_async` hangs for 20 s or for ever when Redis is away, because it subscribes to the result first. So an
endpoint pings broker and backend (`check_reachable`) before it publishes.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import AMQPError
from celery import Celery, current_app
from kombu.exceptions import LimitExceeded, OperationalError
from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from celery_runpod import _stand_ins
from celery_runpod._cluster import ClusterRedis
from celery_runpod._protocol import DEFAULT_QUEUE
from celery_runpod._redis_urls import (
    ALLOWED,
    ONE_SERVER,
    for_celery,
    is_cluster,
    is_redis_url,
    is_sentinel,
    named,
    of_celery_app,
    place_of_url,
    problem_of_url,
    scheme_of,
)
from celery_runpod.errors import BrokerUnavailable, ConfigurationError, NotConfigured

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
DEFAULT_NAMESPACE = "runpod"
NAMESPACE_ALLOWED = "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
LEAST_SECRET = 16
"""The least number of characters of a webhook secret."""
QUERY_SECRET = re.compile(r"(?i)([?&][^=&\s]*(?:password|passwd|secret|token|key)=)[^&\s]+")
MASTER_NAME = "RUNPOD_SENTINEL_MASTER_NAME"
_CERT_REQS = re.compile(r"(?i)(ssl_cert_reqs=)CERT_(\w+)")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ClientSettings:
    """Settings that callers and workers share. URLs hold passwords, so they are not in the `repr`."""

    namespace: str = DEFAULT_NAMESPACE
    broker_url: str = field(default=DEFAULT_REDIS_URL, repr=False)
    result_backend: str = field(default=DEFAULT_REDIS_URL, repr=False)
    store_url: str = field(default=DEFAULT_REDIS_URL, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    webhook_secret_previous: str | None = field(default=None, repr=False)
    explicit: bool = False
    """Whether the environment names a broker, so that a client app can be made from it."""
    names_store: bool = False
    """Whether the environment names the job store."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> ClientSettings:
        """Read `REDIS_URL` and the `RUNPOD_*` variables (docs/settings.md); by default those of `environment`.

        Raises:
            ConfigurationError: the namespace has characters that queue or key names must not have, a URL cannot be used,
                or a webhook secret is too short.
        """
        env = environment() if env is None else env
        return cls(
            namespace=check_namespace(env.get("RUNPOD_NAMESPACE") or DEFAULT_NAMESPACE),
            broker_url=_url(env, "RUNPOD_BROKER_URL", "CELERY_BROKER_URL", of_celery=True),
            result_backend=_url(env, "RUNPOD_RESULT_BACKEND", of_celery=True),
            store_url=_url(env, "RUNPOD_STORE_URL"),
            webhook_secret=_secret(env, "RUNPOD_WEBHOOK_SECRET"),
            webhook_secret_previous=_secret(env, "RUNPOD_WEBHOOK_SECRET_PREVIOUS"),
            explicit=any(env.get(name) for name in ("REDIS_URL", "RUNPOD_BROKER_URL", "CELERY_BROKER_URL")),
            names_store=any(env.get(name) for name in ("REDIS_URL", "RUNPOD_STORE_URL")),
        )


_further: list[Callable[[], Mapping[str, str]]] = []


def read_also(give: Callable[[], Mapping[str, str]]) -> None:
    """Read variables from the settings of a web framework too: `give` returns those that are set there at the moment."""
    if give not in _further:
        _further.append(give)


def environment() -> Mapping[str, str]:
    """The variables of this process. One that is set in the environment goes before the framework's."""
    if not _further:
        return os.environ
    given: dict[str, str] = {}
    for give in _further:
        given |= give()
    return {**given, **{name: value for name, value in os.environ.items() if value or name not in given}}


def check_namespace(namespace: str) -> str:
    """The namespace itself.

    Raises:
        ConfigurationError: it holds other characters than are allowed.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigurationError(f"RUNPOD_NAMESPACE is {namespace!r}; allowed: {NAMESPACE_ALLOWED}")
    return namespace


def check_webhook_secret(variable: str, secret: str) -> str:
    """The secret itself.

    Raises:
        ConfigurationError: it is too short. Whoever has a signed URL could find a short secret by trying.
    """
    if len(secret) < LEAST_SECRET:
        raise ConfigurationError(
            f"{variable} has {len(secret)} characters; allowed: at least {LEAST_SECRET}, made at random, "
            "as `openssl rand -hex 32` does"
        )
    return secret


def _secret(env: Mapping[str, str], variable: str) -> str | None:
    return check_webhook_secret(variable, env[variable]) if env.get(variable) else None


def _url(env: Mapping[str, str], *names: str, of_celery: bool = False) -> str:
    """The first URL that is set; `REDIS_URL` is the last. No error shows the URL, which may hold a password."""
    name = next((name for name in (*names, "REDIS_URL") if env.get(name)), None)
    if name is None:
        return DEFAULT_REDIS_URL
    url, celerys = env[name], of_celery and name != "REDIS_URL"
    if "://" not in url or not (celerys or is_redis_url(url)) or not has_sound_port(url):
        allowed = "a URL that Celery takes" if celerys else ALLOWED
        raise ConfigurationError(
            f"{name} is not a URL that can be used; allowed: {allowed}, as redis://user:password@host:6379/0, with a "
            "password's special characters percent-encoded"
        )
    url = named(url, env.get(MASTER_NAME))
    if problem := problem_of_url(url, of_celery=of_celery):
        raise ConfigurationError(f"{name} {problem}")
    return url


def has_sound_port(url: str) -> bool:
    """Whether the port can be read. It cannot if a password holds a "/" or "#" that is not percent-encoded."""
    if scheme_of(url) not in ONE_SERVER and is_redis_url(url):
        return True  # of several servers, `problem_of_url` reads each
    try:
        return urlsplit(url.split(";", 1)[0]).port != 0
    except ValueError:
        return False


def redis_url(url: str) -> str:
    """The URL for redis-py, whose values of `ssl_cert_reqs` differ from those in Celery's documentation."""
    return _CERT_REQS.sub(lambda found: f"{found[1]}{found[2].lower()}", url)


def mask_url(url: str) -> str:
    """The URL with its password replaced by `***`; safe for logs and errors."""
    scheme, separator, rest = url.partition("://")
    # By the last "@", not by urlsplit: the password of a wrong URL may hold a "/" or a "#".
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return QUERY_SECRET.sub(r"\1***", f"{scheme}{separator}{user}{colon}{'***' if colon else ''}{at}{place}")


TEXT: dict[str, Any] = {"decode_responses": True, "encoding_errors": "backslashreplace"}
"""Bytes that are no UTF-8 become `\\xff`, which is in no JSON and no number: their record cannot be read, but the others
can that were read with it."""
CALL: dict[str, Any] = {"socket_connect_timeout": 2.0, "socket_timeout": 3.0, "retry": None}
READ: dict[str, Any] = {
    "socket_connect_timeout": 2.0,
    "socket_timeout": 5.0,
    "health_check_interval": 25,
    **TEXT,
}
COMMAND: dict[str, Any] = {
    "socket_connect_timeout": 3.0,
    "socket_timeout": 4.0,
    "retry": None,
    **TEXT,
}
STORE: dict[str, Any] = {
    "socket_connect_timeout": 3.0,
    "socket_timeout": 5.0,
    "health_check_interval": 25,
    "retry_on_error": [RedisConnectionError, RedisTimeoutError],
    **TEXT,
}
STORE_RETRIES, READ_RETRIES = 8, 5
"""Of a store; what reads is tried again on a cluster and behind Sentinel alone, else as redis-py does."""


RedisClient = Redis | ClusterRedis
"""What the job store is reached with."""


def connect(url: str, patience: dict[str, Any]) -> RedisClient:
    """A client of the Redis, the cluster, or the Sentinels' master at `url`, which connects with its first command."""
    if is_cluster(url):
        options = {name: value for name, value in patience.items() if name not in ("retry", "retry_on_error")}
        return ClusterRedis(place_of_url(redis_url(url)), options, lambda: _retry(patience) or Retry(NoBackoff(), 0))
    if is_sentinel(url):
        place = place_of_url(redis_url(url))
        # Also what only reads waits until a replica was promoted.
        given = {**patience, **({"retry": retry} if (retry := _retry(patience)) else {}), **place.options}
        master: Redis = sentinels_of(url, patience).master_for(place.master_name, **given)
        return master
    if patience is STORE:
        patience = {**patience, "retry": _retry(patience)}
    found: Redis = Redis.from_url(redis_url(url), **patience)
    return found


def _retry(patience: dict[str, Any]) -> Retry | None:
    """A new one for each client, because redis-py changes it; None: it does not try again."""
    times = STORE_RETRIES if patience is STORE else READ_RETRIES if patience is READ else 0
    return Retry(ExponentialWithJitterBackoff(base=0.1, cap=2.5), times) if times else None


def sentinels_of(url: str, patience: dict[str, Any]) -> Any:
    """The Sentinels that a URL names."""
    place = place_of_url(redis_url(url))
    times = {name: value for name, value in patience.items() if name.startswith("socket_")}
    made: Any = Sentinel
    return made(list(place.nodes), sentinel_kwargs={**times, **place.of_sentinels, **TEXT})


def is_redis(broker_url: str) -> bool:
    """Whether a broker's URL is one of kombu's Redis transport."""
    return broker_url.startswith(("redis", "unix", "sentinel"))


def is_amqp(url: str) -> bool:
    """Whether a broker's URL is RabbitMQ's."""
    return url.startswith(("amqp://", "amqps://", "pyamqp://"))


def broker_of(app: Celery) -> str:
    """The URL that the app publishes to; the first, if Celery has several. Of Sentinels it names all, and the master."""
    given = app.conf.broker_write_url or app.conf.broker_url
    if isinstance(given, list | tuple) and given:
        given = ";".join(given) if is_sentinel(str(given[0])) else given[0]
    return _of_app(app, given, "broker_transport_options")


def backend_of(app: Celery) -> str:
    """The URL of the app's result backend, as `broker_of`; "" without one that has a URL."""
    return _of_app(app, app.conf.result_backend, "result_backend_transport_options")


def _of_app(app: Celery, given: Any, options_name: str) -> str:
    if not isinstance(given, str):
        return ""
    if is_sentinel(given):
        return of_celery_app(given, app.conf.get(options_name) or {})
    return given.split(";", 1)[0]


ANSWER_S = 3.0

HOW_TO_CONFIGURE = """no Celery app is configured in this process. Either set REDIS_URL, or configure an app:
    from celery import Celery
    app = Celery("myproject", broker="redis://127.0.0.1:6379/0", backend="redis://127.0.0.1:6379/0")
    app.set_default()
and import that module before the endpoint is used (in Django: in the project's __init__.py)"""

_lock = threading.Lock()


VARIABLES = (
    "REDIS_URL",
    "RUNPOD_NAMESPACE",
    "RUNPOD_BROKER_URL",
    "CELERY_BROKER_URL",
    "RUNPOD_RESULT_BACKEND",
    "RUNPOD_STORE_URL",
    MASTER_NAME,
    "RUNPOD_WEBHOOK_SECRET",
    "RUNPOD_WEBHOOK_SECRET_PREVIOUS",
)
"""Each variable that `ClientSettings.from_env` reads."""


def client_settings() -> ClientSettings:
    """The settings of this process. The variables are read at each call, and checked where one has changed."""
    env = environment()
    return _checked(*[env.get(name) for name in VARIABLES])


@functools.lru_cache(maxsize=16)
def _checked(*values: str | None) -> ClientSettings:
    return ClientSettings.from_env({name: value for name, value in zip(VARIABLES, values, strict=True) if value})


def client_app() -> Celery:
    """The current app if it is configured, else one made from `REDIS_URL` and the other variables.

    Raises:
        NotConfigured: no app is configured, and no variable names a broker.
    """
    app = current_app._get_current_object()
    # An app in eager mode needs no broker, and an app made from the environment would publish its calls.
    unused = _stand_ins.active() or app.conf.get("task_always_eager")
    if app.conf.get("broker_url") or app.conf.get("broker_write_url") or unused:
        return app  # type: ignore[no-any-return]
    settings = client_settings()
    if not settings.explicit:
        raise NotConfigured(HOW_TO_CONFIGURE)
    with _lock:
        if not current_app.conf.get("broker_url"):
            made = Celery("celery_runpod_client", set_as_current=False)
            made.conf.update(celery_urls(settings.broker_url, settings.result_backend))
            # A RunPod worker with RUNPOD_IMPORTS consumes this queue: such a site has no other worker.
            made.conf.task_default_queue = DEFAULT_QUEUE
            # The default of all threads, so that a chain and its other tasks use it too. An app that the user makes later
            # replaces it.
            made.set_default()
        return current_app._get_current_object()  # type: ignore[no-any-return]


def celery_urls(broker_url: str, result_backend: str) -> dict[str, Any]:
    """Celery's settings that name broker and result backend."""
    (broker, of_broker), (backend, of_backend) = for_celery(broker_url), for_celery(result_backend)
    found: dict[str, Any] = {"broker_url": broker, "result_backend": backend}
    if of_broker:
        found["broker_transport_options"] = of_broker
    if of_backend:
        found["result_backend_transport_options"] = of_backend
    return found


def check_reachable(app: Celery, *, results: bool = True) -> None:
    """Ping the broker, and for a call with `results` the result backend; once, if they are the same Redis.

    Raises:
        BrokerUnavailable: one of them did not answer within seconds; its URL is shown without the password.
    """
    asked = set()
    for role, first in (("broker", broker_of(app)), ("result backend", backend_of(app) if results else "")):
        if not first or first in asked:
            continue
        asked.add(first)
        try:
            if is_redis_url(first):
                _redis(first, os.getpid()).ping()
            elif role == "broker" and is_amqp(first):
                # A pooled connection is reused without a probe: the publisher confirm reveals a dead one.
                with broker_connection(app):
                    pass
            continue
        except LimitExceeded:
            continue  # all connections are in use, so the broker is up
        except (RedisError, OperationalError, AMQPError, OSError) as error:
            reason = str(error) or type(error).__name__
        raise BrokerUnavailable(role, mask_url(first), reason)


@contextmanager
def broker_connection(app: Celery, within_s: float = ANSWER_S) -> Iterator[Any]:
    """An open connection to the broker, from the app's pool.

    Raises:
        kombu.exceptions.LimitExceeded: all are in use.
        kombu.exceptions.OperationalError, AMQPError, OSError: the broker does not answer within this time.
    """
    with app.pool.acquire(block=True, timeout=within_s) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=within_s)
        yield connection


@functools.lru_cache(maxsize=16)
def _redis(url: str, pid: int) -> Any:
    """One open connection for each process: a ping then takes less than a millisecond."""
    return connect(url, CALL)


def store_url(app: Celery, settings: ClientSettings | None = None) -> str:
    """The URL of the job store, with its password."""
    settings = settings or client_settings()
    # Without a variable, the Redis of the app's own broker or backend holds the store.
    if not settings.names_store:
        for of_app in (broker_of, backend_of):
            if is_redis_url(candidate := of_app(app)):
                return candidate
    return settings.store_url


def store_unavailable(app: Celery, error: Exception) -> BrokerUnavailable:
    """The error for a job store that does not answer."""
    return BrokerUnavailable("job store", mask_url(store_url(app)), str(error) or type(error).__name__)
