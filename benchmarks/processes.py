"""Jobs a second against the processes of one RunPod worker, where each call to RunPod takes no time, and 0.2 s.

    .venv/bin/python benchmarks/processes.py
    .venv/bin/python benchmarks/processes.py --svg docs/images/processes.svg

Starts its own servers for each run, and ends them. With more processes than CPUs the curve is flat: a job costs CPU, and
the simulator, Redis and the caller share the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from celery import Celery
from chart import line_chart
from measuring import bench, machine
from throughput import run_jobs, submit_rate

from celery_runpod import Endpoint

ENDPOINTS = [f"fast{number}" for number in range(8)]


def rates(processes: int, jobs: int, call_s: float) -> tuple[float, float]:
    """Jobs a second, and submits a second."""
    with bench([f"{name}=synthetic:duration=0" for name in ENDPOINTS], concurrency=processes) as measured:
        # One of its own for each run: an app keeps its connections.
        app = Celery("processes", broker=measured.redis_url, backend=measured.redis_url, set_as_current=False)
        endpoints = [Endpoint(name, app=app) for name in ENDPOINTS]
        if call_s:
            measured.fault(kind="delay", operation="*", seconds=call_s)
        run_jobs(endpoints, len(endpoints) * 2)  # connections are made once
        return jobs / run_jobs(endpoints, jobs), submit_rate(measured, jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--jobs", type=int, default=800, help="jobs of a run (default: %(default)s)")
    parser.add_argument("--svg", type=Path, help="draw the rates into this file")
    given = parser.parse_args()
    print(machine())
    print("| processes | seconds a call | jobs a second | submits a second |")
    print("|---|---|---|---|")
    curves: dict[str, list[float]] = {}
    for call_s in (0.0, 0.2):
        for processes in given.processes:
            jobs_a_s, submits_a_s = rates(processes, given.jobs, call_s)
            curves.setdefault(f"jobs a second, {call_s:g} s a call", []).append(jobs_a_s)
            print(f"| {processes} | {call_s:g} | {jobs_a_s:.1f} | {submits_a_s:.1f} |", flush=True)
    if given.svg:
        given.svg.write_text(line_chart("processes of the worker", given.processes, curves))


if __name__ == "__main__":
    main()
