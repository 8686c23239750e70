"""What the outbox costs a caller: publishing calls with and without a copy in the store, by turns.

    .venv/bin/python benchmarks/outbox.py --calls 2000

Starts a Redis of its own and no worker. Prints milliseconds a call, and the commands that Redis ran for one: those of a
single call with and without a result, and of a member of a group.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from celery import Celery, group
from redis import Redis

from celery_runpod import Endpoint
from celery_runpod._devstack.stack import Stack
from celery_runpod._publish import routes

ROUNDS = 5


def _publish(endpoint: Endpoint, calls: int, size: int) -> float:
    started = time.perf_counter()
    for number in range(calls):
        endpoint.apply_async(({"n": number, "text": "x" * size},), ignore_result=True)
    return (time.perf_counter() - started) / calls * 1000


def _commands(redis: Redis, publish: Callable[[], object], calls: int) -> str:
    """The commands of one call, as Redis counts them."""
    publish()
    redis.config_resetstat()
    for _ in range(calls):
        publish()
    counts = {name.removeprefix("cmdstat_"): one["calls"] / calls for name, one in redis.info("commandstats").items()}
    told = {name: count for name, count in counts.items() if count >= 0.05 and not name.startswith(("config", "info"))}
    return f"{sum(told.values()):.1f}: " + ", ".join(f"{count:g} {name}" for name, count in sorted(told.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--size", type=int, default=1000, help="bytes of each input")
    given = parser.parse_args()
    with Stack(Path(tempfile.mkdtemp())) as stack:
        url = stack.redis()
        app = Celery("benchmark", broker=url, backend=url)
        endpoint = Endpoint("fast", app=app)
        keep, times = routes.keep, {"with": [], "without": []}
        _publish(endpoint, 100, given.size)
        for _ in range(ROUNDS):
            for name, function in (("with", keep), ("without", lambda *_: None)):
                routes.keep = function
                times[name].append(_publish(endpoint, given.calls, given.size))
        routes.keep, redis = keep, Redis.from_url(url)
        counted = {
            "delay": _commands(redis, lambda: endpoint.delay(n=1), 50),
            "delay, ignore_result": _commands(redis, lambda: _publish(endpoint, 1, given.size), 50),
            "group of 50": _commands(redis, lambda: group([endpoint.s(n=n) for n in range(50)], app=app).delay(), 1),
        }
    print(f"{platform.machine()}, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}; {given}")
    for name, found in times.items():
        print(f"{name:8} the outbox: {min(found):.3f} to {max(found):.3f} ms a call")
    for name, words in counted.items():
        print(f"{name}: commands {words}")


if __name__ == "__main__":
    main()
