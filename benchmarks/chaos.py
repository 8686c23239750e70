"""The chaos driver by hand: any number of jobs, or any time, with kills, restarts and faults throughout.

    .venv/bin/python benchmarks/chaos.py --jobs 10000 --seed 7
    .venv/bin/python benchmarks/chaos.py --minutes 60 --webhooks
    .venv/bin/python benchmarks/chaos.py --jobs 2000 --open 20000   # while 20,000 others are open

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
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from measuring import accept_one, open_copies

from celery_runpod import cancel
from celery_runpod._store.keys import Keys
from celery_runpod._store.store import JobStore
from tests.chaos.driver import chaos_world, run
from tests.chaos.evidence import End, ends_of
from tests.chaos.plan import make_plan
from tests.servers import World


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=10_000, help="endpoint jobs to send (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="send for so long instead: jobs = rate x time")
    parser.add_argument("--rate", type=float, default=20.0, help="jobs a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=os.environ.get("CHAOS_SEED"), help="default: CHAOS_SEED, else new")
    parser.add_argument("--break-every", type=float, default=4.0, metavar="S", help="seconds (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="RunPod workers (default: %(default)s)")
    parser.add_argument("--webhooks", action="store_true", help="with webhooks, and faults of theirs")
    parser.add_argument("--open", type=int, default=0, metavar="N", help="jobs that are open meanwhile (default: none)")
    parser.add_argument("--settle", type=float, default=300.0, metavar="S", help="bound after the load")
    parser.add_argument("--keep", action="store_true", help="keep logs and Redis' files even if all is well")
    return parser.parse_args()


class Crowd:
    """Jobs that are open while the plan runs: copies of the record of one real call, 200 at a time running for 30 s."""

    def __init__(self, world: World, number: int, progress: Callable[[str], None]) -> None:
        self.findings: list[str] = []
        self._world, self._progress = world, progress
        self._store = JobStore(world.redis, world.namespace)
        worker = world.stack.worker("opens", concurrency=1)
        mark = str(uuid.uuid4())
        job = accept_one(self._store, NAME, world.app(), mark)
        open_copies(self._store, job, number - 1)
        self._store.holds.lift(NAME)
        self._root = job.root_id
        self._ids = sorted(self._store.ids.members(job.root_id))
        worker.kill(signal.SIGTERM)
        worker.process.wait()
        world.stack.remove(worker)
        self._ends: Counter[str] = Counter()

    def end(self) -> None:
        """Cancel what is still open, wait until all has ended, and judge: each has one end, and one submit at most."""
        cancel(self._root, app=self._world.app())
        keys, until = self._store.keys, time.monotonic() + CROWD_ENDS_S
        pending = list(self._ids)
        ends: dict[str, End] = {}
        while pending and time.monotonic() < until:
            time.sleep(1)
            ends |= ends_of(self._world, pending)
            pending = [task_id for task_id in pending if task_id not in ends]
            self._progress(f"the crowd ends: {len(pending)} without an end, {self._owed(keys)} cancels to send")
        while self._owed(keys) and time.monotonic() < until:
            time.sleep(1)
        self.findings += [f"lost: {task_id}" for task_id in pending]
        submits = Counter(job["input"]["mark"] for job in self._world.jobs(NAME))
        self.findings += [f"double: {mark}" for mark, times in submits.items() if times > 1]
        self.findings += [f"nobody's: {mark}" for mark in submits.keys() - set(self._ids)]
        for task_id, one in ends.items():
            kind = one.state if one.state != "FAILURE" else type(one.result).__name__
            self._ends[kind] += 1
            right = one.result == {"mark": task_id} if one.state == "SUCCESS" else kind in ENDS
            if not right:
                self.findings.append(f"wrong: {task_id}: {kind}: {one.result}")

    def _owed(self, keys: Keys) -> int:
        found: Any = self._world.redis.zcard(keys.cancels(NAME))
        return int(found)

    def text(self) -> str:
        each = ", ".join(f"{kind} {times}" for kind, times in sorted(self._ends.items()))
        return "\n".join([f"{len(self._ids)}: {each}; {len(self.findings)} findings", *self.findings[:20]])


NAME = "crowd"
CROWD = f"{NAME}=synthetic:duration=30,jitter=10,workers=200"
CROWD_ENDS_S = 900.0
ENDS = ("REVOKED", "SubmissionUnconfirmed")
"""A cancel, and a submit whose answer was lost with a kill or a fault. Both end a job that RunPod has at most once."""


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

    crowd: Crowd | None = None
    with chaos_world(folder, webhooks=given.webhooks, endpoints=[CROWD] if given.open else []) as world:
        if given.open:
            crowd = Crowd(world, given.open, progress)
        report = run(
            world,
            plan,
            workers=given.workers,
            settle_s=given.settle,
            progress=progress,
            before_settling=crowd.end if crowd else lambda: None,
            apart=frozenset({NAME}),
        )
        text = report.text()
    memory = psutil.virtual_memory().total / 2**30
    print(f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.platform()}, {os.cpu_count()} CPUs, {memory:.0f} GiB")
    print(f"Python {platform.python_version()}, {shlex.join(['python', *sys.argv])}")
    print(text)
    if crowd is not None:
        print(f"  open meanwhile     {crowd.text()}")
    if report.verdict.findings or (crowd is not None and crowd.findings):
        return 1
    if not given.keep:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
