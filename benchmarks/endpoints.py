"""Many endpoints, against one endpoint with as many open jobs: messages and Redis commands a job.

    .venv/bin/python benchmarks/endpoints.py               # 500 endpoints of 200 jobs, and one of 100,000: an hour
    .venv/bin/python benchmarks/endpoints.py --jobs 20     # of 20 jobs each, in minutes
    .venv/bin/python benchmarks/endpoints.py --jobs 8 --calls

Each run has its own Redis, simulator and worker. One call of each endpoint is accepted while its submits are held; its
record is copied until so many jobs are open, then submits go on. With `--calls` the jobs are called instead, in turn, as
fast as one caller can. Counted from the first submit or call to the last delivery; and after that, what an idle second
costs. Messages are what was pushed to the lists of the broker, and that of each call.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from empty import app
from measuring import Bench, accept_one, bench, in_own_process, machine, open_copies

from celery_runpod import Endpoint
from celery_runpod._protocol import CHECK_STATUS, Queues
from celery_runpod._store.store import JobStore

LAST_CHECKS_S, IDLE_S = 60.0, 10.0


@dataclass
class Run:
    """What so many jobs cost together, beside what callers did."""

    jobs: int
    seconds: float
    commands: int
    scripts: int
    messages: int
    worker_s: float
    redis_s: float
    requests: dict[str, int]
    idle_commands_a_second: float


def counted(measured: Bench) -> tuple[int, int, int]:
    """Commands of clients (a script is one), scripts among them, and messages that were pushed."""
    found = {name.removeprefix("cmdstat_"): one["calls"] for name, one in measured.redis.info("commandstats").items()}
    total = int(measured.redis.info("stats")["total_commands_processed"])
    # The store's own lists are cut at each push.
    return total, found.get("evalsha", 0), found.get("lpush", 0) - found.get("ltrim", 0)


def run(number: int, jobs: int, length_s: float, processes: int, calls: bool) -> Run:
    names = [f"e{place:04}" for place in range(number)]
    spec = f"synthetic:duration={length_s:g},jitter={length_s / 20:g}"
    with bench([f"{name}={spec}" for name in names], concurrency=processes) as measured:
        app.conf.update(broker_url=measured.redis_url, result_backend=measured.redis_url)
        app.set_default()
        endpoints = [Endpoint(name, app=app) for name in names]
        warm_up(endpoints[0])
        store = JobStore(measured.redis, "runpod")
        if not calls:
            for name in names:
                open_copies(store, accept_one(store, name, app), jobs // number - 1)
        began, before, costs = time.monotonic(), counted(measured), measured.counters()
        if calls:
            for _ in range(jobs // number):
                for endpoint in endpoints:
                    endpoint.apply_async(kwargs={"n": 1}, ignore_result=True)
        else:
            for name in names:
                store.holds.lift(name)
                app.send_task(CHECK_STATUS, (name,), queue=Queues.of("runpod").status, ignore_result=True)
        asked = 0
        while open_calls(measured, names):
            time.sleep(1)
            asked += 2 * len(names) + 1
        seconds, after, used = time.monotonic() - began, counted(measured), measured.counters().since(costs)
        # Each endpoint has a check planned, which finds nothing.
        time.sleep(LAST_CHECKS_S)
        before_idle = counted(measured)
        time.sleep(IDLE_S)
        idle = (counted(measured)[0] - before_idle[0]) / IDLE_S
    total, scripts, messages = (now - then for now, then in zip(after, before, strict=True))
    messages += 0 if calls else jobs
    return Run(jobs, seconds, total - asked, scripts, messages, used.worker_s, used.redis_s, used.requests, idle)


def warm_up(endpoint: Endpoint) -> None:
    """Connections are made once."""
    for result in [endpoint.delay(n=number) for number in range(10)]:
        result.get(timeout=120)


def open_calls(measured: Bench, names: list[str]) -> bool:
    """Whether any call has not ended."""
    with measured.redis.pipeline(transaction=False) as pipe:
        pipe.zcard("runpod:outbox")
        for name in names:
            for order in ("due", "undelivered"):
                pipe.zcard(f"{{runpod:{name}}}:{order}")
        return any(pipe.execute())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=500, help="endpoints (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=200, help="jobs of each (default: %(default)s)")
    parser.add_argument("--length", type=float, default=5.0, help="seconds of a job (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=2, help="processes of the worker (default: %(default)s)")
    parser.add_argument("--calls", action="store_true", help="call the jobs; otherwise they are all open at the start")
    given = parser.parse_args()
    total = given.endpoints * given.jobs
    runs = {}
    for number in (1, given.endpoints):
        runs[number] = in_own_process(run, number, total, given.length, given.concurrency, given.calls)
    print(machine())
    print(
        "| endpoints | jobs | jobs a second | messages a job | Redis commands a job | scripts a job "
        "| looks a job | CPU ms a job: worker, Redis | commands an idle second |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for number, one in runs.items():
        print(
            f"| {number} | {one.jobs:,} | {one.jobs / one.seconds:.0f} | {one.messages / one.jobs:.2f} "
            f"| {one.commands / one.jobs:.0f} | {one.scripts / one.jobs:.1f} "
            f"| {one.requests.get('status', 0) / one.jobs:.2f} "
            f"| {one.worker_s / one.jobs * 1e3:.1f}, {one.redis_s / one.jobs * 1e3:.1f} "
            f"| {one.idle_commands_a_second:.0f} |"
        )
    one, many = runs[1], runs[given.endpoints]
    print(f"many against one: messages {many.messages / one.messages:.2f}, commands {many.commands / one.commands:.2f}")


if __name__ == "__main__":
    main()
