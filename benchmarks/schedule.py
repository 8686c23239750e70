"""Does the schedule of looks hold for many open jobs? A simulation in its own clock: arithmetic, no server.

    .venv/bin/python benchmarks/schedule.py                       # the table of docs/scaling.md
    .venv/bin/python benchmarks/schedule.py --svg docs/images/looks.svg

RunPod: 200 workers, jobs of 20 s (5 % spread), first in first out, 100 submits and 200 looks a second. So many jobs are
open at the start; at most `window` of them are at RunPod. Each is looked at when `tasks/schedule.py` says, or later where
the looks of the second are used up; the earliest planned look goes first. The delay is the time from a job's end to the
look that sees it.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from chart import line_chart

from tasks.schedule import Lengths

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
    lengths = Lengths(of.gauss(LENGTH_S, LENGTH_S * SPREAD) for _ in range(200))
    median_s = lengths.quantile(0.5)
    free = [0.0] * WORKERS
    submitted: list[float] = []
    start: list[float] = []
    end: list[float] = []
    starts: deque[float] = deque()
    planned: list[tuple[float, int]] = []
    begun = looks = open_at_runpod = 0
    delays: list[float] = []
    submit_at = look_at = now = 0.0
    while len(delays) < jobs:
        may_submit = len(submitted) < jobs and (not window or open_at_runpod < window)
        if may_submit and (not planned or max(submit_at, now) <= max(planned[0][0], look_at)):
            now = max(submit_at, now)
            submit_at = now + 1 / SUBMITS_A_S
            began = max(now, heapq.heappop(free))
            start.append(began)
            end.append(began + of.gauss(LENGTH_S, LENGTH_S * SPREAD))
            heapq.heappush(free, end[-1])
            starts.append(began)
            heapq.heappush(planned, (now + lengths.pause_s(None), len(submitted)))
            submitted.append(now)
            open_at_runpod += 1
            continue
        planned_at, job = heapq.heappop(planned)
        now = max(now, planned_at, look_at)
        look_at = now + 1 / LOOKS_A_S
        looks += 1
        while starts and starts[0] <= now:
            starts.popleft()
            begun += 1
        if now >= end[job]:
            delays.append(now - end[job])
            open_at_runpod -= 1
        elif now >= start[job]:
            heapq.heappush(planned, (now + lengths.pause_s(now - start[job]), job))
        else:
            ahead = max(0, job - begun)
            pause_s = lengths.pause_s(None, ahead, ahead / WORKERS * median_s, now - submitted[job])
            heapq.heappush(planned, (now + pause_s, job))
    delays.sort()
    p95_s = delays[int(0.95 * len(delays))]
    return Held(jobs, window, looks / jobs, looks / now, statistics.median(delays), p95_s, now / 3600)


def drawn(runs: list[Held], window: int) -> str:
    """Looks a second, and how late ends are seen, against the open jobs."""
    chosen = [one for one in runs if one.window == window]
    curves = {
        "looks a second": [one.looks_a_s for one in chosen],
        "end seen late by, 95 % (s)": [one.p95_s for one in chosen],
    }
    return line_chart("open jobs", [one.jobs for one in chosen], curves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--window", type=int, nargs="*", default=[1000, 0], help="0: none (default: 1000 and 0)")
    parser.add_argument("--svg", type=Path, help="draw the runs with the first window into this file")
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
        given.svg.write_text(drawn(runs, given.window[0]))


if __name__ == "__main__":
    main()
