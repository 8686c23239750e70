"""How late a job's end is seen, and with how many looks, for jobs of known lengths. Polling alone, without webhooks.

    .venv/bin/python benchmarks/looks.py                       # 5, 20 and 60 s, each length 20 times
    .venv/bin/python benchmarks/looks.py --lengths 300 --jobs 10

Jobs of one length are called one after the other, half a length apart, on an endpoint of their own, all lengths side by
side. The delay is the time from the job's end at RunPod to its result in the caller's hands; the anchor is RunPod's SDK,
which looks once a second: half a second late, and one look for each second of the job.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import dataclass, field

from celery import Celery
from measuring import Bench, bench, machine

from celery_runpod import Endpoint


@dataclass
class Seen:
    """What became of the jobs of one length: seconds from each end to its result."""

    length_s: float
    delays_s: list[float] = field(default_factory=list)


def name(length_s: float) -> str:
    return f"steady-{length_s:g}".replace(".", "-")


def call(endpoint: Endpoint, seen: Seen, jobs: int, ended: dict[str, float]) -> None:
    """Call the jobs, and note when each result arrived."""
    waiting = []

    def wait_for(number: int) -> None:
        result = endpoint.delay(n=number)
        result.get(timeout=seen.length_s * 3 + 120)
        ended[f"{name(seen.length_s)}:{number}"] = time.time()

    for number in range(jobs):
        thread = threading.Thread(target=wait_for, args=(number,))
        thread.start()
        waiting.append(thread)
        time.sleep(seen.length_s / 2)
    for thread in waiting:
        thread.join()


def delays(measured: Bench, seen: list[Seen], arrived: dict[str, float]) -> None:
    for job in measured.jobs():
        for one in seen:
            if job["endpoint"] == name(one.length_s):
                one.delays_s.append(arrived[f"{job['endpoint']}:{job['input']['n']}"] - job["ended_at"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=float, nargs="+", default=[5.0, 20.0, 60.0], metavar="S")
    parser.add_argument("--jobs", type=int, default=20, help="jobs of each length (default: %(default)s)")
    given = parser.parse_args()
    seen = [Seen(length_s) for length_s in given.lengths]
    specs = [f"{name(one.length_s)}=synthetic:duration={one.length_s},jitter={one.length_s * 0.05:g}" for one in seen]
    arrived: dict[str, float] = {}
    with bench(specs) as measured:
        app = Celery("looks", broker=measured.redis_url, backend=measured.redis_url)
        app.set_default()
        callers = [
            threading.Thread(target=call, args=(Endpoint(name(one.length_s), app=app), one, given.jobs, arrived))
            for one in seen
        ]
        before = measured.counters()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        asked = measured.counters().since(before).requests
        delays(measured, seen, arrived)
    print(machine())
    print("| length | median delay | of the length | longest | SDK's delay |")
    print("|---|---|---|---|---|")
    for one in seen:
        middle = statistics.median(one.delays_s)
        share = middle / one.length_s
        print(f"| {one.length_s:g} s | {middle:.2f} s | {share:.0%} | {max(one.delays_s):.2f} s | 0.5 s |")
    jobs = given.jobs * len(seen)
    sdks = sum(one.length_s for one in seen) / len(seen)
    looks, health = asked.get("status", 0), asked.get("health", 0)
    print(f"looks a job: {looks / jobs:.1f} and /health {health / jobs:.1f}; the SDK's at one a second: {sdks:.1f}")


if __name__ == "__main__":
    main()
