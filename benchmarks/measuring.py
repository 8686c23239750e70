"""What the benchmarks share: servers of their own, counters read before and after, a line that names the machine.

Not a benchmark itself. The benchmarks use what a user has (`Endpoint`, the command line) and read counters from outside:
CPU time from the operating system, commands from Redis, requests from the simulator.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import psutil
import requests
from celery import Celery
from redis import Redis

from celery_runpod import Endpoint
from celery_runpod._devstack.stack import Server, Stack
from celery_runpod._store.record import JobRecord
from celery_runpod._store.store import JobStore

HERE = Path(__file__).resolve().parent
T = TypeVar("T")


def in_own_process(run: Callable[..., T], *given: Any) -> T:
    """Run in a process of its own: Celery's app keeps connections to the servers of the run before."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(run, *given).result()


def machine() -> str:
    """Date, machine and command: what a published figure must name."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, {os.cpu_count()} CPUs, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}: "
        f"{shlex.join(['python', *sys.argv])}"
    )


def cpu_s(*processes: Server) -> float:
    """CPU seconds that these processes, and their living children, have used."""
    total = 0.0
    for server in processes:
        main = psutil.Process(server.pid)
        for process in (main, *main.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def worker_mib(measured: Bench) -> float:
    """Resident memory of the worker and its children."""
    main = psutil.Process(measured.worker.pid)
    return sum(one.memory_info().rss for one in (main, *main.children(recursive=True))) / 2**20


@dataclass
class Counters:
    """Figures that only grow; the difference of two readings is what happened between them."""

    worker_main_s: float
    worker_s: float
    redis_s: float
    simulator_s: float
    caller_s: float
    redis_commands: int
    requests: dict[str, int]

    def since(self, before: Counters) -> Counters:
        asked = {name: count - before.requests.get(name, 0) for name, count in self.requests.items()}
        return Counters(
            self.worker_main_s - before.worker_main_s,
            self.worker_s - before.worker_s,
            self.redis_s - before.redis_s,
            self.simulator_s - before.simulator_s,
            self.caller_s - before.caller_s,
            self.redis_commands - before.redis_commands,
            asked,
        )

    def per_job(self, jobs: int) -> str:
        """CPU in ms, Redis commands and requests a job."""
        main, pool = self.worker_main_s / jobs * 1e3, (self.worker_s - self.worker_main_s) / jobs * 1e3
        asked = ", ".join(f"{name} {count / jobs:.2f}" for name, count in sorted(self.requests.items()) if count)
        return (
            f"CPU ms a job: worker main {main:.1f}, pool {pool:.1f}, Redis {self.redis_s / jobs * 1e3:.1f}, "
            f"simulator {self.simulator_s / jobs * 1e3:.1f}, caller {self.caller_s / jobs * 1e3:.1f}; "
            f"Redis commands a job {self.redis_commands / jobs:.0f}; requests a job: {asked or 'none'}"
        )


class Bench:
    """Redis, simulator, one RunPod worker and one application worker, for one run of a benchmark."""

    def __init__(
        self, stack: Stack, endpoints: Sequence[str], concurrency: int, env: dict[str, str], pool: str = "prefork"
    ) -> None:
        self.stack = stack
        self.redis_url = stack.redis()
        self.redis: Any = Redis.from_url(self.redis_url, decode_responses=True)
        self.address = stack.simulator(*endpoints, arguments=("--no-limits",))
        ours = {"REDIS_URL": self.redis_url, "RUNPOD_BASE_URL": f"{self.address}/v2", "PYTHONPATH": str(HERE), **env}
        self.worker = stack.worker(concurrency=concurrency, pool=pool, env=ours)
        self.application = stack.application("empty", concurrency=concurrency, env=ours, cwd=HERE)

    def counters(self) -> Counters:
        servers = {server.name.split("-")[0]: server for server in self.stack.servers}
        times = psutil.Process(self.worker.pid).cpu_times()
        own = psutil.Process().cpu_times()
        counts = requests.get(f"{self.address}/_simulator/requests", timeout=10).json()
        asked = {name: sum(counts[name].values()) for name in counts if isinstance(counts[name], dict)}
        return Counters(
            times.user + times.system,
            cpu_s(self.worker),
            cpu_s(servers["redis"]),
            cpu_s(servers["simulator"]),
            own.user + own.system,
            int(self.redis.info("stats")["total_commands_processed"]),
            asked,
        )

    def fault(self, **fields: Any) -> None:
        """Put a fault into the simulator (docs/simulator.md)."""
        requests.post(f"{self.address}/_simulator/faults", json=fields, timeout=10).raise_for_status()

    def jobs(self) -> list[dict[str, Any]]:
        """Every job that the simulator has had, with `submitted_at` and `ended_at` in seconds since 1970."""
        found: list[dict[str, Any]] = requests.get(f"{self.address}/_simulator/jobs", timeout=60).json()
        return found


def accept_one(store: JobStore, name: str, app: Celery, mark: str | None = None) -> JobRecord:
    """The record of a real call, which waits because submits are held (`store.holds.lift` lets them go). A `mark` is its
    task id, and its input."""
    store.holds.hold(name, time.time())
    given: dict[str, Any] = {"kwargs": {"n": 0}} if mark is None else {"args": ({"mark": mark},), "task_id": mark}
    result = Endpoint(name, app=app).apply_async(**given)
    while True:
        for job in store.jobs(name, [result.id]):
            if job.reason:
                return job
        time.sleep(0.05)


def open_copies(store: JobStore, job: JobRecord, number: int) -> None:
    """Open so many jobs like this one, under its root, behind it in the order of the submits."""
    redis: Any = store.redis
    keys, endpoint = store.keys, job.endpoint
    raw: dict[str, str] = redis.hgetall(keys.job(endpoint, job.task_id))
    for start in range(0, number, 1000):
        with redis.pipeline(transaction=False) as pipe:
            for place in range(start, min(start + 1000, number)):
                task_id = str(uuid.uuid4())
                fields = {name: text.replace(job.task_id, task_id) for name, text in raw.items()}
                pipe.hset(keys.job(endpoint, task_id), mapping={**fields, "root_id": job.root_id})
                pipe.set(keys.task(task_id), json.dumps({"endpoint": endpoint, "root": job.root_id}))
                pipe.sadd(keys.root(job.root_id), task_id)
                pipe.zadd(keys.waiting(endpoint), {task_id: job.turn + (place + 1) / 1000})
                pipe.zadd(keys.due(endpoint), {task_id: job.end_by})
            pipe.execute()


@contextmanager
def bench(
    endpoints: Sequence[str], *, concurrency: int = 2, env: dict[str, str] | None = None, pool: str = "prefork"
) -> Iterator[Bench]:
    """Servers on free loopback ports, ended at the end."""
    with TemporaryDirectory() as folder, Stack(Path(folder), {"RUNPOD_API_KEY": "benchmark"}) as stack:
        yield Bench(stack, endpoints, concurrency, env or {}, pool)


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median, with the least and the greatest."""
    return f"{statistics.median(values):.2f}{unit} ({min(values):.2f} to {max(values):.2f})"
