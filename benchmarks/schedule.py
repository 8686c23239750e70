"""Does the schedule of looks hold for many open jobs? A simulation in its own clock: arithmetic, no server.

    .venv/bin/python benchmarks/schedule.py                       # the table of docs/scaling.md
    .venv/bin/python benchmarks/schedule.py --svg docs/images

RunPod: 200 workers, jobs of 20 s (5 % spread), first in first out, 100 submits and 200 looks a second. So many jobs are
open at the start; at most `window` of them are at RunPod. Each is looked at when `tasks/schedule.py` says, or later where
the looks of the second are used up; the earliest planned look goes first. /health counts the jobs in progress, and then
looks at RunPod's queue are planned again (`tasks/runpod_queue.py`); each count is a look. The delay is the time from a
job's end to the look that sees it.
"""

from __future__ import annotations

import argparse
import bisect
import heapq
import math
import random
import statistics
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from chart import line_chart

from celery_runpod._store.places_in_queue import COUNT_EVERY_S, MOVED_AT_ONCE
from tasks.order_of_looks import Known
from tasks.schedule import Lengths, Queue

WORKERS, LENGTH_S, SPREAD = 200, 20.0, 0.05
SUBMITS_A_S, LOOKS_A_S = 100.0, 200.0


@dataclass
class Held:
    """What a run of the simulation showed."""

    jobs: int
    window: int
    looks_a_job: float
    looks_a_s: float
    median_s: float
    p95_s: float
    hours: float


def simulate(jobs: int, window: int, seed: int = 1) -> Held:
    """Run until every job was seen to have ended. `window`: 0 for none."""
    of = random.Random(seed)
    known = Known(Lengths(of.gauss(LENGTH_S, LENGTH_S * SPREAD) for _ in range(200)), counted=True)
    lengths = known.lengths
    free = [0.0] * WORKERS
    submitted: list[float] = []
    start: list[float] = []
    end: list[float] = []
    queue: list[int] = []  # at RunPod, not yet seen to be in progress, in the order of their submits
    seen: set[int] = set()
    starts: deque[tuple[float, float]] = deque()
    ends: list[float] = []
    planned: list[tuple[float, int]] = []
    plan: dict[int, float] = {}
    looks = counts = 0
    delays: list[float] = []
    submit_at = look_at = count_at = now = 0.0

    def put(job: int, at: float) -> None:
        plan[job] = at
        heapq.heappush(planned, (at, job))

    def before(job: int) -> Queue:
        return known.queue(len(seen) + bisect.bisect_left(queue, job))

    while len(delays) < jobs:
        while planned and plan.get(planned[0][1]) != planned[0][0]:
            heapq.heappop(planned)
        next_look = max(planned[0][0], look_at) if planned else math.inf
        at_runpod = len(queue) + len(seen)
        may_submit = len(submitted) < jobs and (not window or at_runpod < window)
        next_submit = max(submit_at, now) if may_submit else math.inf
        now = max(now, min(next_look, next_submit, count_at))
        while starts and starts[0][0] <= now:
            heapq.heappush(ends, starts.popleft()[1])
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        if count_at <= min(next_look, next_submit):
            count_at, counts = now + COUNT_EVERY_S, counts + 1
            known = replace(known, running=max(len(seen), len(ends)))
            begun_s = min(COUNT_EVERY_S, lengths.pause_s(None))
            for job in queue[:MOVED_AT_ONCE]:
                if (at := now + lengths.pause_s(None, *before(job)) - begun_s) < plan[job]:
                    put(job, at)
        elif next_submit <= next_look:
            submit_at = now + 1 / SUBMITS_A_S
            job, began = len(submitted), max(now, heapq.heappop(free))
            start.append(began)
            end.append(began + of.gauss(LENGTH_S, LENGTH_S * SPREAD))
            heapq.heappush(free, end[-1])
            starts.append((began, end[-1]))
            submitted.append(now)
            queue.append(job)
            put(job, now + lengths.pause_s(None, *before(job)))
        else:
            _, job = heapq.heappop(planned)
            look_at, looks = now + 1 / LOOKS_A_S, looks + 1
            if now >= start[job] and job not in seen:
                queue.pop(bisect.bisect_left(queue, job))
                seen.add(job)
            if now >= end[job]:
                delays.append(now - end[job])
                seen.discard(job)
                del plan[job]
            elif job in seen:
                put(job, now + lengths.pause_s(now - start[job]))
            else:
                put(job, now + lengths.pause_s(None, *before(job), now - submitted[job]))
    delays.sort()
    p95_s = delays[int(0.95 * len(delays))]
    looks += counts
    return Held(jobs, window, looks / jobs, looks / now, statistics.median(delays), p95_s, now / 3600)


def draw(runs: list[Held], jobs: list[int], folder: Path) -> None:
    """Looks a second, and how late ends are seen, against the open jobs."""
    by_window: dict[str, list[Held]] = {}
    for one in runs:
        by_window.setdefault(f"window of {one.window:,}" if one.window else "no window", []).append(one)
    looks = {f"looks a second, {name}": [one.looks_a_s for one in found] for name, found in by_window.items()}
    late = {f"end seen late by, 95 % (s), {name}": [one.p95_s for one in found] for name, found in by_window.items()}
    for file, curves in (("looks", looks), ("delays", late)):
        (folder / f"{file}.svg").write_text(line_chart("open jobs", jobs, curves))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--window", type=int, nargs="*", default=[1000, 0], help="0: none (default: 1000 and 0)")
    parser.add_argument("--svg", type=Path, help="draw looks.svg and delays.svg into this folder")
    given = parser.parse_args()
    runs = []
    print("| open | window | looks a job | looks a second | seen late by: median | 95 % | takes |")
    print("|---|---|---|---|---|---|---|")
    for window in given.window:
        for jobs in given.jobs:
            one = simulate(jobs, window)
            runs.append(one)
            late = f"{one.median_s:.2f} s | {one.p95_s:.1f} s ({one.p95_s / LENGTH_S:.0%})"
            shown = f"{one.looks_a_job:.1f} | {one.looks_a_s:.0f} | {late} | {one.hours:.1f} h"
            print(f"| {jobs:,} | {window or 'none'} | {shown} |", flush=True)
    if given.svg:
        draw(runs, given.jobs, given.svg)


if __name__ == "__main__":
    main()
