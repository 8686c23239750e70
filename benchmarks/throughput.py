"""Jobs a second through one RunPod worker, against a chain of two empty Celery tasks on the same machine, by turns.

    .venv/bin/python benchmarks/throughput.py                 # jobs of 0 s over 8 endpoints, a worker of 2 processes
    .venv/bin/python benchmarks/throughput.py --call-s 0.2    # every call to RunPod takes 0.2 s, as over the internet

Starts its own Redis, simulator, RunPod worker and application worker, and ends them. Prints the ratio of the two rates,
the CPU time, the Redis commands and the requests that a job costs, and submits a second.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time

from celery import chain
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult
from empty import app, first, second
from measuring import Bench, bench, machine, spread, worker_mib

from celery_runpod import Endpoint


def run_jobs(endpoints: list[Endpoint], jobs: int) -> float:
    """Seconds from the first call to the last result."""
    began = time.monotonic()
    results = [endpoints[number % len(endpoints)].delay(n=number) for number in range(jobs)]
    for result in results:
        result.get(timeout=600)
    return time.monotonic() - began


def run_chains(chains: int) -> float:
    """The same for chains of two empty tasks."""
    began = time.monotonic()
    results = [chain(first.s(), second.s()).apply_async() for _ in range(chains)]
    for result in results:
        ended(result)
    return time.monotonic() - began


def ended(result: AsyncResult) -> None:
    """Celery (5.7.0) asks for the result and for its notification over two connections: a result that is stored in
    between is missed, of some thousand chains once. `JobResult.get` reads it again."""
    while True:
        with contextlib.suppress(CeleryTimeoutError):
            result.get(timeout=5)
            return


def submit_rate(measured: Bench, jobs: int) -> float:
    """Submits a second that the simulator saw among its latest jobs, from the first to the last of them."""
    times = sorted(job["submitted_at"] for job in measured.jobs())[-jobs:]
    return (len(times) - 1) / max(times[-1] - times[0], 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=800, help="jobs of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--endpoints", type=int, default=8, help="endpoints (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=2, help="processes of each worker (default: %(default)s)")
    parser.add_argument("--call-s", type=float, default=0.0, help="seconds that each call to RunPod takes")
    parser.add_argument("--pool", default="prefork", help="Celery's pool of the RunPod worker (default: %(default)s)")
    given = parser.parse_args()
    names = [f"fast{number}" for number in range(given.endpoints)]
    specs = [f"{name}=synthetic:duration=0" for name in names]
    with bench(specs, concurrency=given.concurrency, pool=given.pool) as measured:
        app.conf.update(broker_url=measured.redis_url, result_backend=measured.redis_url)
        app.set_default()
        endpoints = [Endpoint(name, app=app) for name in names]
        if given.call_s:
            measured.fault(kind="delay", operation="*", seconds=given.call_s)
        run_jobs(endpoints, len(endpoints) * 2)  # connections are made once
        run_chains(10)
        job_rates, chain_rates, ratios, submits, costs = [], [], [], [], []
        for _ in range(given.rounds):
            before = measured.counters()
            job_rates.append(given.jobs / run_jobs(endpoints, given.jobs))
            costs.append(measured.counters().since(before))
            submits.append(submit_rate(measured, given.jobs))
            chain_rates.append(given.jobs / run_chains(given.jobs))
            ratios.append(job_rates[-1] / chain_rates[-1])
        mib = worker_mib(measured)
    print(machine())
    print(f"jobs a second       {spread(job_rates)}")
    print(f"submits a second    {spread(submits)}")
    print(f"chains a second     {spread(chain_rates)}  (two empty tasks: the anchor)")
    print(f"ratio               {spread(ratios)}")
    median = sorted(costs, key=lambda cost: cost.worker_s)[len(costs) // 2]
    print(median.per_job(given.jobs))
    print(f"memory of the worker {mib:.0f} MiB")
    print(f"looks a job         {statistics.median(cost.requests.get('status', 0) / given.jobs for cost in costs):.2f}")


if __name__ == "__main__":
    main()
