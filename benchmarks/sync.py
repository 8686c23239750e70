"""How long a caller waits for a job by /runsync and by /run, for jobs of 0.2 s to 20 s, on the simulator.

Bounded: about two minutes. Run: `python benchmarks/sync.py`. One call at a time; what is measured is the time from
`delay()` to the result in the caller's hands, and how much of it was not the job itself. Everything is on loopback, so
RunPod's own network and queue come on top of both.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from celery import Celery

from celery_runpod import Endpoint
from celery_runpod._devstack.stack import Stack

ROUNDS = {0.2: 7, 1.0: 7, 5.0: 3, 20.0: 2}
"""Seconds of a job -> how often it is called in each way."""


def name(duration_s: float) -> str:
    return f"job-{str(duration_s).replace('.', '-')}"


def measure(endpoint: Endpoint, rounds: int) -> float:
    """The median of the seconds from the call to its result."""
    took = []
    for _ in range(rounds):
        began = time.monotonic()
        endpoint.delay(prompt="a bee").get(timeout=120)
        took.append(time.monotonic() - began)
    return statistics.median(took)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), {"RUNPOD_API_KEY": "any"}) as stack:
        url = stack.redis()
        address = stack.simulator(*(f"{name(s)}=synthetic:duration={s}" for s in ROUNDS))
        stack.worker(env={"REDIS_URL": url, "RUNPOD_BASE_URL": f"{address}/v2"})
        app = Celery("benchmark", broker=url, backend=url)
        Endpoint(name(0.2), app=app).delay(prompt="warm").get(timeout=60)  # connections are made once
        cpus = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
        print(f"{datetime.now(UTC):%Y-%m-%d}, {cpus}")
        print("| job | sync | of it waiting | async | of it waiting |")
        print("|---|---|---|---|---|")
        for duration_s, rounds in ROUNDS.items():
            endpoint = Endpoint(name(duration_s), app=app)
            sync, plain = measure(endpoint.using(sync=True), rounds), measure(endpoint, rounds)
            waits = [f"{one:.2f} s | {one - duration_s:.2f} s" for one in (sync, plain)]
            print(f"| {duration_s:g} s | {' | '.join(waits)} |", flush=True)


if __name__ == "__main__":
    main()
