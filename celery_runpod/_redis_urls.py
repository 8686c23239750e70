"""What a URL of Redis names: one server, a cluster, or a master that Sentinels watch.

    redis://host:6379/0, rediss://, unix://                              one server
    redis+cluster://host:6379,host:6380, rediss+cluster://               a cluster: the job store alone
    redis+sentinel://host:26379,host:26379/0?master_name=mymaster        a master and its replicas
    sentinel://host:26379/0;sentinel://host:26379/0?master_name=...      the same, as Celery writes it

User and password before "@" are those of the servers. Those of the Sentinels are `sentinel_username` and
`sentinel_password` in the query. Other parts of the query are redis-py's options of a connection.

Not here: who connects (``_connect.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from redis import connection

ONE_SERVER = ("redis", "rediss", "unix")
CLUSTER = ("redis+cluster", "rediss+cluster")
SENTINEL = ("redis+sentinel", "rediss+sentinel", "sentinel")
ALLOWED = "redis://, rediss://, unix://, redis+sentinel://, sentinel:// (with ?master_name=) or, for the job store, redis+cluster://"
REDIS_PORT, SENTINEL_PORT = 6379, 26379
CLUSTER_REFUSED = (
    "names a Redis Cluster: Celery has no broker and no result backend on one. Keep both on one Redis, or behind "
    "Sentinel (RUNPOD_BROKER_URL, RUNPOD_RESULT_BACKEND); RUNPOD_STORE_URL may name the cluster"
)
_OF_SENTINELS = {"sentinel_username": "username", "sentinel_password": "password"}
_MASTER = "master_name"


@dataclass(frozen=True)
class Place:
    """What a URL of a cluster or of Sentinels says. `nodes` are (host, port); `options` redis-py's for the servers,
    `of_sentinels` those for the Sentinels."""

    nodes: tuple[tuple[str, int], ...]
    options: Mapping[str, Any] = field(repr=False)
    of_sentinels: Mapping[str, Any] = field(default_factory=dict, repr=False)
    master_name: str = ""


def scheme_of(url: str) -> str:
    """What stands before "://", in lower case."""
    return url.partition("://")[0].lower() if "://" in url else ""


def is_cluster(url: str) -> bool:
    """Whether a URL names a Redis Cluster."""
    return scheme_of(url) in CLUSTER


def is_sentinel(url: str) -> bool:
    """Whether a URL names Sentinels."""
    return scheme_of(url) in SENTINEL


def has_replicas(url: str) -> bool:
    """Whether a URL names servers that have replicas, and fail over to them."""
    return is_cluster(url) or is_sentinel(url)


def is_redis_url(url: str) -> bool:
    """Whether a URL is one of this page's."""
    return scheme_of(url) in (*ONE_SERVER, *CLUSTER, *SENTINEL)


def place_of_url(url: str) -> Place:
    """What a URL of a cluster or of Sentinels names.

    Raises:
        ValueError: it cannot be read; the text shows nothing of the URL, which may hold a password.
    """
    scheme = scheme_of(url)
    default = SENTINEL_PORT if scheme in SENTINEL else REDIS_PORT
    first, *others = [part.partition("://")[2] for part in url.split(";") if part]
    body, _, query = first.partition("?")
    authority, _, path = body.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    for other in others:
        body, _, later_query = other.partition("?")
        query = query or later_query
        hosts += "," + body.partition("/")[0].rpartition("@")[2]
    username, _, password = credentials.partition(":")
    asked = dict(parse_qsl(query))
    master_name = asked.pop(_MASTER, "")
    of_sentinels = {name: asked.pop(given) for given, name in _OF_SENTINELS.items() if given in asked}
    # redis-py knows the kinds of its options. The host is a stand-in.
    read: Any = connection.parse_url
    options = dict(read(f"{'rediss' if scheme.startswith('rediss') else 'redis'}://host/{path}?{urlencode(asked)}"))
    options.pop("host")
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    options |= {name: unquote(value) for name, value in (("username", username), ("password", password)) if value}
    if scheme in CLUSTER and options.pop("db", 0) != 0:
        raise ValueError("a Redis Cluster has database 0 alone")
    return Place(tuple(_node(one, default) for one in hosts.split(",")), options, of_sentinels, master_name)


def _node(text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.strip().rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text.strip(), ""
    number = int(port) if port.isdigit() else default if not port else -1
    if not host or not 0 < number < 65536:
        raise ValueError("give each server as host:port, with commas between")
    return host.strip("[]"), number


def named(url: str, master_name: str | None) -> str:
    """The URL, in which Sentinels are asked for this master where it names none."""
    return of_celery_app(url, {_MASTER: master_name}) if is_sentinel(url) else url


def problem_of_url(url: str, *, of_celery: bool) -> str | None:
    """Why a URL cannot be used, as the end of a sentence; None: it can. `of_celery`: for broker or result backend."""
    if of_celery and is_cluster(url):
        return CLUSTER_REFUSED
    if of_celery and scheme_of(url) == "rediss+sentinel":
        return "asks for TLS behind Sentinel, which is for the job store alone (RUNPOD_STORE_URL)"
    if not has_replicas(url):
        return None
    try:
        place = place_of_url(url)
    except ValueError as error:
        return f"cannot be read: {error}"
    if is_sentinel(url) and not place.master_name:
        return "names Sentinels and no master: add ?master_name=NAME, or set RUNPOD_SENTINEL_MASTER_NAME"
    return None


def for_celery(url: str) -> tuple[str, dict[str, Any]]:
    """Broker or result backend as Celery takes them: the URL, and the options of its transport."""
    if not is_sentinel(url):
        return url, {}
    place = place_of_url(url)
    user, password = (quote(str(place.options.get(name, "")), safe="") for name in ("username", "password"))
    credentials = f"{user}:{password}@" if user or password else ""
    database = place.options.get("db", 0)
    hosts = [f"[{host}]" if ":" in host else host for host, _ in place.nodes]
    ports = [port for _, port in place.nodes]
    urls = [f"sentinel://{credentials}{host}:{port}/{database}" for host, port in zip(hosts, ports, strict=True)]
    options: dict[str, Any] = {"master_name": place.master_name}
    if place.of_sentinels:
        options["sentinel_kwargs"] = dict(place.of_sentinels)
    return ";".join(urls), options


def of_celery_app(url: str, options: Mapping[str, Any]) -> str:
    """The URL of a Celery app's Sentinels, with what the options of its transport name: the master, and the Sentinels'
    own user and password."""
    asked = {_MASTER: options.get(_MASTER)}
    asked |= {ours: (options.get("sentinel_kwargs") or {}).get(theirs) for ours, theirs in _OF_SENTINELS.items()}
    query = urlencode({name: value for name, value in asked.items() if value and f"{name}=" not in url})
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url
