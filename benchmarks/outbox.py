"""What the outbox costs a caller: publishing calls with and without a copy in the store, by turns.

    .venv/bin/python benchmarks/outbox.py --calls 2000

Starts a Redis of its own and no worker. Prints milliseconds a call.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from celery import Celery

from celery_runpod import Endpoint, routing
from celery_runpod.cli.stack import Stack

ROUNDS = 5


def _publish(endpoint: Endpoint, calls: int, size: int) -> float:
    started = time.perf_counter()
    for number in range(calls):
        endpoint.apply_async(({"n": number, "text": "x" * size},), ignore_result=True)
    return (time.perf_counter() - started) / calls * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--size", type=int, default=1000, help="bytes of each input")
    given = parser.parse_args()
    with Stack(Path(tempfile.mkdtemp())) as stack:
        url = stack.redis()
        app = Celery("benchmark", broker=url, backend=url)
        endpoint = Endpoint("fast", app=app)
        keep, times = routing.keep, {"with": [], "without": []}
        _publish(endpoint, 100, given.size)
        for _ in range(ROUNDS):
            for name, function in (("with", keep), ("without", lambda *_: None)):
                routing.keep = function
                times[name].append(_publish(endpoint, given.calls, given.size))
    print(f"{platform.machine()}, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}; {given}")
    for name, found in times.items():
        print(f"{name:8} the outbox: {min(found):.3f} to {max(found):.3f} ms a call")


if __name__ == "__main__":
    main()
