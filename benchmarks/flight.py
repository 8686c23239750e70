"""Many open jobs on one endpoint, 200 of them running: looks a second, how late ends are seen, what a job costs.

    .venv/bin/python benchmarks/flight.py                                  # 1,000 and 10,000 open jobs of 30 s
    .venv/bin/python benchmarks/flight.py --open 100000 --seconds 120
    .venv/bin/python benchmarks/flight.py --open 5000 --most-in-flight 0   # without a window

One call is accepted while submits are held; its record is copied until so many are open, then submits go on. Measured
from the fourth length on, for so many seconds. The delay is the time from a job's end at RunPod to its delivery; the
anchor for looks is RunPod's SDK, which asks about each running job once a second.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import psutil
from empty import app
from measuring import Bench, Counters, accept_one, bench, machine, open_copies

from celery_runpod._store.store import JobStore

NAME = "held"
WARM_UP = 4
"""Lengths of a job until the endpoint has taught them, and the first wave is over."""


@dataclass
class Flight:
    """What was measured with so many open jobs."""

    open_jobs: int
    seconds: float
    ended: int
    delays_s: list[float]
    used: Counters
    bytes_a_job: float
    worker_mib: float


def worker_mib(measured: Bench) -> float:
    """Resident memory of the worker and its children."""
    main = psutil.Process(measured.worker.pid)
    return sum(one.memory_info().rss for one in (main, *main.children(recursive=True))) / 2**20


def fly(open_jobs: int, running: int, length_s: float, seconds: float, most_in_flight: int) -> Flight:
    spec = f"{NAME}=synthetic:duration={length_s:g},jitter={length_s / 20:g},workers={running}"
    env = {"RUNPOD_MOST_IN_FLIGHT": str(most_in_flight)}
    with bench([spec], env=env) as measured:
        app.conf.update(broker_url=measured.redis_url, result_backend=measured.redis_url)
        app.set_default()
        store = JobStore(measured.redis, "runpod")
        job = accept_one(store, NAME, app)
        before_bytes = measured.redis.info("memory")["used_memory"]
        open_copies(store, job, open_jobs - 1)
        bytes_a_job = (measured.redis.info("memory")["used_memory"] - before_bytes) / max(1, open_jobs - 1)
        store.holds.lift(NAME)
        time.sleep(WARM_UP * length_s)
        began, before = time.time(), measured.counters()
        time.sleep(seconds)
        over, used = time.time(), measured.counters().since(before)
        mib = worker_mib(measured)
        time.sleep(WARM_UP * length_s)
        ended = [one for one in measured.jobs() if one["ended_at"] and began <= one["ended_at"] < over]
        delays = delivered(store, ended)
    return Flight(open_jobs, over - began, len(ended), delays, used, bytes_a_job, mib)


def delivered(store: JobStore, ended: list[dict[str, Any]]) -> list[float]:
    """Seconds from each job's end to its delivery; a job that was not delivered counts as an hour."""
    ids: dict[str, str] = {}
    for key in store.redis.scan_iter(match=store.keys.by_job_id(NAME, "*"), count=10_000):
        ids[key.rpartition(":by_job_id:")[2]] = store.redis.get(key)
    found = []
    for one in ended:
        task_id = ids.get(one["id"], "")
        state, at = store.redis.hmget(store.keys.job(NAME, task_id), ["state", "ended_at"])
        found.append(float(at) - one["ended_at"] if state == "DELIVERED" else 3600.0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open", type=int, nargs="+", default=[1000, 10_000], metavar="N", help="open jobs")
    parser.add_argument("--running", type=int, default=200, help="RunPod workers (default: %(default)s)")
    parser.add_argument("--length", type=float, default=30.0, help="seconds of a job (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured (default: %(default)s)")
    parser.add_argument("--most-in-flight", type=int, default=1000, help="0: no window (default: %(default)s)")
    given = parser.parse_args()
    flights = [fly(number, given.running, given.length, given.seconds, given.most_in_flight) for number in given.open]
    print(machine())
    print("| open | ended | looks a second | the SDK's | median delay | 95 % | store a job | worker | CPU ms a job |")
    print("|---|---|---|---|---|---|---|---|---|")
    for one in flights:
        delays = sorted(one.delays_s)
        asked = one.used.requests
        looks = (asked.get("status", 0) + asked.get("health", 0)) / one.seconds
        late = delays[int(len(delays) * 0.95)]
        cpu = one.used.worker_s / max(1, one.ended) * 1e3
        print(
            f"| {one.open_jobs:,} | {one.ended} | {looks:.1f} | {given.running} "
            f"| {statistics.median(delays):.2f} s | {late:.2f} s ({late / given.length:.0%}) "
            f"| {one.bytes_a_job:,.0f} B | {one.worker_mib:.0f} MiB | {cpu:.1f} |"
        )


if __name__ == "__main__":
    main()
