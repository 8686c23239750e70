"""Synthetic endpoints: jobs that take time and no process, thousands a second, for tests and benchmarks.

A job costs one timer. Its output is its input, or `output_bytes` of text. Not here: handlers (``worker_fleet.py``).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from itertools import count
from typing import Any

from celery_runpod._simulator.endpoint_specs import Synthetic
from celery_runpod._simulator.faults import AT_RESULT
from celery_runpod._simulator.simulated_endpoint import Endpoint
from celery_runpod._simulator.simulated_jobs import LARGEST_RESULT, NOTHING, Job


def failure(worker_id: str) -> str:
    """An `error` as RunPod's SDK makes it of an exception."""
    message = "this synthetic endpoint fails a fraction of its jobs (option failures)"
    found = {
        "error_type": "<class 'RuntimeError'>",
        "error_message": message,
        "error_traceback": f"Traceback (most recent call last):\nRuntimeError: {message}\n",
        "hostname": "simulator",
        "worker_id": worker_id,
        "runpod_version": "simulator",
    }
    return json.dumps(found)


class SyntheticRunner:
    """Runs the jobs of one endpoint by timers."""

    def __init__(self, endpoint: Endpoint, spec: Synthetic) -> None:
        self.endpoint = endpoint
        self.spec = spec
        self.random = random.Random()
        self.most: int | None = spec.workers or None
        self._bulk = "x" * spec.output_bytes
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._free: list[int] = []
        self._hired = 0
        self._number: dict[str, int] = {}

    def wake(self) -> None:
        while self.most is None or len(self._timers) < self.most:
            head = self.endpoint.queue.head()
            if head is None:
                return
            if self.spec.delay and (early := head.queued_at + self.spec.delay - time.time()) > 0:
                self._wake_in(early)
                return
            number = self._hire()
            taken = self.endpoint.take(f"synthetic-{number}")
            if taken is None:
                self._free.append(number)
                return
            job = taken.job
            self._number[job.id] = number
            loop = asyncio.get_running_loop()
            if taken.crash_after_s is not None:
                self._timers[job.id] = loop.call_later(taken.crash_after_s, self._crash, job)
                continue
            seconds = self.spec.duration + self.random.uniform(0, self.spec.jitter) + taken.delay_s
            self._timers[job.id] = loop.call_later(seconds, self._end, job)

    def stop(self, job: Job, *, kill: bool) -> None:
        self._release(job)
        self.wake()

    def tick(self, now: float) -> None:
        """Nothing is due here: timers do it."""

    def health(self) -> dict[str, int]:
        busy = len(self._timers)
        idle = 1 if self.most is None else max(0, self.most - busy)
        return {"idle": idle, "initializing": 0, "ready": idle, "running": busy, "throttled": 0, "unhealthy": 0}

    def scale(self, least: int, most: int | None, idle_s: float) -> None:
        """Set how many jobs run at once. The workers are imaginary: they are always there, and never end."""
        self.most = most
        self.wake()

    def listing(self, now: float) -> list[tuple[str, str, float]]:
        running = self.endpoint.queue.running
        busy = {
            number: running[job_id].started_at or now for job_id, number in self._number.items() if job_id in running
        }
        found = [(f"synthetic-{number}", "RUNNING", since) for number, since in busy.items()]
        free = (number for number in count(1) if number not in busy)
        return found + [(f"synthetic-{next(free)}", "IDLE", now) for _ in range(self.health()["idle"])]

    def reset(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._number.clear()
        self._free, self._hired = [], 0

    async def close(self) -> None:
        self.reset()

    def _end(self, job: Job) -> None:
        worker_id = f"synthetic-{self._release(job)}"
        if not self.endpoint.faults.at(self.endpoint.name, "worker", AT_RESULT).keys() & {"status", "drop_before"}:
            if self.spec.failures and self.random.random() < self.spec.failures:
                self.endpoint.finish(job, error=failure(worker_id))
            else:
                self.endpoint.finish(job, output=self._output(job))
        self.wake()

    def _output(self, job: Job) -> Any:
        """As of a handler: RunPod loses a result over 20 MB, and the job is COMPLETED without output."""
        if self.spec.output_bytes > LARGEST_RESULT:
            return NOTHING
        return self._bulk if self.spec.output_bytes else job.input

    def _crash(self, job: Job) -> None:
        self._release(job)
        self.endpoint.lose(job, "crashed")
        self.wake()

    def _hire(self) -> int:
        if self._free:
            return self._free.pop()
        self._hired += 1
        return self._hired

    def _release(self, job: Job) -> int:
        if timer := self._timers.pop(job.id, None):
            timer.cancel()
        number = self._number.pop(job.id, None)
        if number is None:
            return 0
        self._free.append(number)
        return number

    def _wake_in(self, seconds: float) -> None:
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._wake_again)

    def _wake_again(self) -> None:
        self._alarm = None
        self.wake()
