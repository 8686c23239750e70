"""Many open jobs on one endpoint, 200 of them running: looks a second, how late ends are seen, what a job costs.

    .venv/bin/python benchmarks/flight.py                                  # 1,000 and 10,000 open jobs of 30 s
    .venv/bin/python benchmarks/flight.py --open 100000 --seconds 120
    .venv/bin/python benchmarks/flight.py --open 5000 --most-in-flight 0   # without a window
    .venv/bin/python benchmarks/flight.py --open 30000 --all-running       # how long until each was looked at once

One call is accepted while submits are held; its record is copied until so many are open, then submits go on. Measured
from the fourth length on, for so many seconds. The delay is the time from a job's end at RunPod to its delivery; the
anchor for looks is RunPod's SDK, which asks about each running job once a second.

With `--all-running` every job is in progress at RunPod, and due to be looked at now; none ends. RunPod allows 200 looks a
second, so each must be looked at within ceil(jobs / 200) s.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests
from empty import app
from measuring import Counters, accept_one, bench, in_own_process, machine, open_copies, worker_mib

from celery_runpod._protocol import CHECK_STATUS, Queues
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod._store.store import JobStore

NAME = "held"
LOOKS_A_SECOND = 200
"""docs.runpod.io/serverless/endpoints/operation-reference: 2,000 /status in 10 s"""
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


def look_at_all(number: int, give_up_s: float) -> list[tuple[float, int]]:
    """How many of so many running jobs were looked at once, after how many seconds, until all were."""
    with bench([f"{NAME}=synthetic:duration=86400"], env={"RUNPOD_MOST_IN_FLIGHT": "0"}) as measured:
        app.conf.update(broker_url=measured.redis_url, result_backend=measured.redis_url)
        app.set_default()
        store = JobStore(measured.redis, "runpod")
        job = accept_one(store, NAME, app)
        store.holds.lift(NAME)
        while not (found := store.jobs(NAME, [job.task_id])) or found[0].state is not State.IN_PROGRESS:
            time.sleep(0.1)
        ids = running_copies(store, found[0], submitted(measured.address, number - 1))
        # Nothing else says that they are due: they were written past the worker.
        app.send_task(CHECK_STATUS, (NAME,), queue=Queues.of("runpod").status)
        began, after = time.monotonic(), [(0.0, 0)]
        while ids and time.monotonic() - began < give_up_s:
            time.sleep(1)
            with measured.redis.pipeline(transaction=False) as pipe:
                for task_id in ids:
                    pipe.hget(store.keys.job(NAME, task_id), "checks")
                checks = pipe.execute()
            ids = [task_id for task_id, times in zip(ids, checks, strict=True) if times == NO_LOOK]
            after.append((time.monotonic() - began, number - 1 - len(ids)))
        return after


NO_LOOK = "7"
"""What a copy's count of looks begins with: one that was looked at has another."""


def submitted(address: str, number: int) -> list[str]:
    """RunPod's ids of so many new jobs."""
    session = requests.Session()
    session.headers["Authorization"] = "Bearer benchmark"

    def submit(_: int) -> str:
        answer = session.post(f"{address}/v2/{NAME}/run", json={"input": {"n": 0}}, timeout=60)
        answer.raise_for_status()
        return str(answer.json()["id"])

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(submit, range(number)))


def running_copies(store: JobStore, job: JobRecord, job_ids: list[str]) -> list[str]:
    """Write a record like this one for each of RunPod's ids, to be looked at now; returns their task ids."""
    keys, redis = store.keys, store.redis
    raw: Any = redis.hgetall(keys.job(NAME, job.task_id))
    ids = []
    for start in range(0, len(job_ids), 1000):
        with redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids[start : start + 1000]:
                ids.append(task_id := str(uuid.uuid4()))
                fields = {name: text.replace(job.task_id, task_id) for name, text in raw.items()}
                pipe.hset(keys.job(NAME, task_id), mapping={**fields, "job_id": job_id, "checks": NO_LOOK})
                pipe.set(keys.task(task_id), json.dumps({"endpoint": NAME, "root": task_id}))
                pipe.set(keys.by_job_id(NAME, job_id), task_id)
                pipe.zadd(keys.inflight(NAME), {task_id: 0})
                pipe.zadd(keys.due(NAME), {task_id: job.end_by})
            pipe.execute()
    for start in range(0, len(ids), 1000):
        redis.zadd(keys.look(NAME), dict.fromkeys(ids[start : start + 1000], time.time()))
    return ids


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
    parser.add_argument("--all-running", action="store_true", help="every job is in progress, and due to be looked at")
    given = parser.parse_args()
    if given.all_running:
        for number in given.open:
            bound_s = math.ceil(number / LOOKS_A_SECOND)
            after = in_own_process(look_at_all, number, 10 * bound_s + 60)
            in_time = max(looked_at for at, looked_at in after if at <= bound_s)
            print(machine())
            print(
                f"{number:,} running jobs, each looked at once after {after[-1][0]:.0f} s; {bound_s} s are allowed. "
                f"Looked at after {bound_s} s: {in_time:,}"
            )
        return
    how = given.running, given.length, given.seconds, given.most_in_flight
    flights = [in_own_process(fly, number, *how) for number in given.open]
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
