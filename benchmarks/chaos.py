"""The chaos driver by hand: any number of jobs, or any time, with kills, restarts and faults throughout.

    .venv/bin/python benchmarks/chaos.py --jobs 10000 --seed 7
    .venv/bin/python benchmarks/chaos.py --minutes 60 --webhooks

Starts its own Redis, simulator and workers, and ends them. Prints a tally with the machine, the date, the seed and the
command; exit status 1 if anything was lost, double or wrong. The same seed, jobs and rate give the same plan.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shlex
import shutil
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.chaos.driver import chaos_world, run
from tests.chaos.plan import make_plan


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=10_000, help="endpoint jobs to send (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="send for so long instead: jobs = rate x time")
    parser.add_argument("--rate", type=float, default=20.0, help="jobs a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=os.environ.get("CHAOS_SEED"), help="default: CHAOS_SEED, else new")
    parser.add_argument("--break-every", type=float, default=4.0, metavar="S", help="seconds (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="RunPod workers (default: %(default)s)")
    parser.add_argument("--webhooks", action="store_true", help="with webhooks, and faults of theirs")
    parser.add_argument("--settle", type=float, default=300.0, metavar="S", help="bound after the load")
    parser.add_argument("--keep", action="store_true", help="keep logs and Redis' files even if all is well")
    return parser.parse_args()


def main() -> int:
    # Ended from outside, it must still end its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = arguments()
    seed = int(given.seed) if given.seed is not None else random.randrange(10**6)
    jobs = int(given.rate * 60 * given.minutes) if given.minutes else given.jobs
    plan = make_plan(seed, jobs=jobs, rate=given.rate, break_every_s=given.break_every, webhooks=given.webhooks)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {seed}: {plan.jobs} jobs, {len(plan.breaks)} breaks; logs in {folder}", flush=True)
    live = sys.stdout.isatty()

    def progress(line: str) -> None:
        print(f"\r{line:<110}" if live else line, end="" if live else "\n", flush=True)

    with chaos_world(folder, webhooks=given.webhooks) as world:
        report = run(world, plan, workers=given.workers, settle_s=given.settle, progress=progress)
        text = report.text()
    memory = psutil.virtual_memory().total / 2**30
    print(f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.platform()}, {os.cpu_count()} CPUs, {memory:.0f} GiB")
    print(f"Python {platform.python_version()}, {shlex.join(['python', *sys.argv])}")
    print(text)
    if report.verdict.findings:
        return 1
    if not given.keep:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
