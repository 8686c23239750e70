"""The checks of `doctor` on a Redis Cluster, and behind Sentinel: each master, its replicas, the Sentinels.

Not here: what is judged of each server (``server_checks.py``), whether a URL can be used (`config/settings.py`).
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError

from celery_runpod._cli.doctor.findings import CHECK_S, Finding, ok, warning, within, wrong
from celery_runpod._cli.doctor.server_checks import TROUBLE, judged, look_at_client, unreachable
from celery_runpod._cluster import ClusterRedis
from celery_runpod._connect import COMMAND, connect, mask_url, sentinels_of
from celery_runpod._redis_urls import is_sentinel, place_of_url

GOOD_REPLICAS = "min_slaves_good_slaves"
"""INFO has this field where min-replicas-to-write is set."""


def check_replicated(role: str, url: str) -> list[Finding]:
    """Whether each master is reached, loses nothing, and has a replica; and whether the Sentinels agree."""
    try:
        return within(CHECK_S, lambda: _of_sentinels(role, url) if is_sentinel(url) else _of_cluster(role, url))
    except TROUBLE as error:
        return [unreachable(role, mask_url(url), error)]


def _of_cluster(role: str, url: str) -> list[Finding]:
    client = connect(url, COMMAND)
    assert isinstance(client, ClusterRedis)
    masters = {_address(one): one for one in client.masters()}
    found = [ok(role, f"{mask_url(url)}: a cluster of {len(masters)} masters, {len(client.replicas())} replicas")]
    missing = client.slots_without_master()
    if missing:
        found = [wrong(role, f"{mask_url(url)}: {missing} slots have no master", "redis-cli --cluster check, and fix")]
    for address, master in sorted(masters.items()):
        found += _of_master(f"{role}: {address}", address, master)
    return found


def _of_sentinels(role: str, url: str) -> list[Finding]:
    place = place_of_url(url)
    answers: dict[str, dict[str, Any]] = {}
    found = []
    for (host, port), sentinel in zip(place.nodes, sentinels_of(url, COMMAND).sentinels, strict=True):
        try:
            answers[f"{host}:{port}"] = sentinel.sentinel_master(place.master_name)
        except (RedisError, OSError) as error:
            what = f"the Sentinel {host}:{port} does not answer for {place.master_name!r}: {error}"
            found.append(warning(f"{role}: Sentinel", what, "start it, or correct the URL or the master's name"))
    client = connect(url, COMMAND)
    info, latency_s, skew_s = look_at_client(client)
    named = sorted({f"{one['ip']}:{one['port']}" for one in answers.values()})
    first = ok(role, f"{mask_url(url)}: the master {place.master_name!r} is {', '.join(named)}")
    if len(named) > 1:
        advice = "wait until the failover is over, then look again"
        first = warning(role, f"the Sentinels name several masters: {', '.join(named)}", advice)
    known = 1 + max((int(one["num-other-sentinels"]) for one in answers.values()), default=0)
    quorum = max((int(one["quorum"]) for one in answers.values()), default=0)
    if known < 3:
        advice = "run three: fewer cannot tell a dead master from a cut network"
        found.append(warning(f"{role}: Sentinel", f"{known} Sentinels watch it, with a quorum of {quorum}", advice))
    else:
        found.append(ok(f"{role}: Sentinel", f"{known} Sentinels watch it, with a quorum of {quorum}"))
    return [first, *found, *judged(role, ", ".join(named), info, latency_s, skew_s)[1:], *_replicas(role, role, info)]


def _of_master(role: str, address: str, client: Any) -> list[Finding]:
    try:
        info, latency_s, skew_s = look_at_client(client)
    except (RedisError, OSError) as error:
        return [unreachable(role, address, error)]
    return [*judged(role, address, info, latency_s, skew_s), *_replicas(role, address, info)]


def _replicas(role: str, name: str, info: dict[str, Any]) -> list[Finding]:
    """How many follow a master. `min-replicas-to-write` is only reported: the intents of submits do not need it."""
    number = int(info.get("connected_slaves", 0))
    bound = "is set" if GOOD_REPLICAS in info else "is not set"
    if number == 0:
        advice = "start one: without it no job is submitted (RUNPOD_STORE_REPLICAS), and a crash takes all with it"
        return [wrong(f"{role}: replicas", f"{name} has no replica", advice)]
    return [ok(f"{role}: replicas", f"{number} connected; min-replicas-to-write {bound}")]


def _address(client: Any) -> str:
    options = client.get_connection_kwargs()
    return f"{options['host']}:{options['port']}"
