"""What a webhook costs and gains: time to the follow-up task, GETs of /status and bytes through the broker, for each job.

The time stands beside that of a hop, from the publish of a bare task to its start, and of one GET of /status. Both are
measured while the jobs run, each `EVERY_S` seconds: on an idle machine a hop or a GET that follows another at once takes
less than half of the time of one that wakes sleeping processes, as a webhook does.

Bounded: about two minutes. Run: `python benchmarks/webhooks.py`. The same jobs run twice on the simulator: with webhooks,
and found by checks alone, which is the anchor. Broker and store are two Redis servers, so that the broker's bytes can be
counted; what its workers' waiting costs in the same time is subtracted.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from celery import Celery, chain
from measuring import in_own_process
from redis import Redis

from celery_runpod import Endpoint, JobResult
from celery_runpod._devstack.stack import Stack, cli, free_port

SECRET = "a-secret-of-the-benchmark-0123456789"
WITHIN_S = 300.0
EVERY_S = 0.1
HOPS = 20
"""How many bare tasks show what one costs the broker."""

app = Celery("benchmark", broker=os.environ.get("RUNPOD_BROKER_URL"), backend=os.environ.get("REDIS_URL"))
app.conf.task_default_queue = "benchmark"


@app.task(name="benchmark.began")
def began() -> float:
    """The follow-up task: when it began. It is not given the output, which would count as the broker's."""
    return time.time()


def broker_bytes(url: str) -> int:
    found: Any = Redis.from_url(url).info("stats")
    return int(found["total_net_input_bytes"])


def measure(jobs: int, output_bytes: int, webhooks: bool) -> dict[str, float]:
    """Medians and means of one run."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), {"RUNPOD_API_KEY": "benchmark"})
        try:
            stack.env["REDIS_URL"] = store = stack.redis()
            stack.env["RUNPOD_BROKER_URL"] = broker = stack.redis()
            spec = f"bulk=synthetic:duration=2,jitter=6,output_bytes={output_bytes}"
            simulator = stack.simulator(spec)
            stack.env["RUNPOD_BASE_URL"] = f"{simulator}/v2"
            stack.env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
            if webhooks:
                port = free_port()
                stack.env["RUNPOD_WEBHOOK_URL"] = f"http://127.0.0.1:{port}/runpod/webhook"
                stack.env["RUNPOD_WEBHOOK_SECRET"] = SECRET
                ready = "webhooks ready at "
                stack.start("webhooks", [*cli("webhooks"), "--port", str(port)], ready=lambda one: ready in one.text())
            stack.worker(concurrency=2)
            stack.application("webhooks")
            os.environ.update(RUNPOD_STORE_URL=store, REDIS_URL=store, RUNPOD_BROKER_URL=broker)
            app.conf.update(broker_url=broker, result_backend=store)
            app.set_current()
            app.set_default()
            return _run(jobs, simulator, broker)
        finally:
            stack.stop()


def _run(jobs: int, simulator: str, broker: str) -> dict[str, float]:
    endpoint = Endpoint("bulk", app=app)
    first = chain(endpoint.s(n=-1), began.si()).delay()
    first.get(timeout=WITHIN_S)
    idle_from, at = broker_bytes(broker), time.monotonic()
    time.sleep(5)
    idle_a_second = (broker_bytes(broker) - idle_from) / (time.monotonic() - at)
    counted, at = broker_bytes(broker), time.monotonic()
    for _ in range(HOPS):
        hop()
    a_hop = (broker_bytes(broker) - counted - idle_a_second * (time.monotonic() - at)) / HOPS
    ended_id = str(JobResult(first.parent.id, app=app).job_id)
    looked, counted, at = looks(simulator), broker_bytes(broker), time.monotonic()
    results = [chain(endpoint.s(n=n), began.si()).delay() for n in range(jobs)]
    hops, gets, pending = [], [], deque(results)
    while pending and time.monotonic() - at < WITHIN_S:
        hops.append(hop())
        time.sleep(EVERY_S)
        gets.append(get(simulator, ended_id))
        time.sleep(EVERY_S)
        while pending and pending[0].ready():
            pending.popleft()
    starts = {result.parent.id: result.get(timeout=WITHIN_S) for result in results}
    sent = broker_bytes(broker) - counted - idle_a_second * (time.monotonic() - at) - a_hop * len(hops)
    hop_s, get_s = statistics.median(hops), statistics.median(gets)
    listed = requests.get(f"{simulator}/_simulator/jobs", timeout=30).json()
    ended = {job["id"]: job["ended_at"] for job in listed}
    late = [starts[result.parent.id] - ended[JobResult(result.parent.id, app=app).job_id] for result in results]
    return {
        "median late, s": statistics.median(late),
        "95 % late, s": statistics.quantiles(late, n=20)[-1],
        "a hop, s": hop_s,
        "a GET, s": get_s,
        "hops late, without one GET": (statistics.median(late) - get_s) / hop_s,
        "GETs a job": (looks(simulator) - looked - len(gets)) / jobs,
        "broker bytes a job": sent / jobs,
    }


def hop() -> float:
    """Seconds from the publish of a bare task to its start."""
    published = time.time()
    return float(began.delay().get(timeout=WITHIN_S)) - published


def get(simulator: str, job_id: str) -> float:
    """Seconds that one GET of /status takes."""
    at = time.monotonic()
    requests.get(f"{simulator}/v2/bulk/status/{job_id}", headers={"Authorization": "Bearer benchmark"}, timeout=30)
    return time.monotonic() - at


def looks(simulator: str) -> int:
    """How often /status was asked."""
    return sum(requests.get(f"{simulator}/_simulator/requests", timeout=5).json().get("status", {}).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--output-bytes", type=int, default=100_000)
    given = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores, {sys.platform}")
    for webhooks in (True, False):
        found = in_own_process(measure, given.jobs, given.output_bytes, webhooks)
        name = "webhooks" if webhooks else "checks alone"
        print(f"{name:14}" + "; ".join(f"{what}: {number:.3f}" for what, number in found.items()))


if __name__ == "__main__":
    main()
