"""One simulated job, from submit until it is forgotten. Pure: the time is an argument.

Times are seconds since 1970; `answer` makes RunPod's milliseconds of them. Not here: the queue of jobs
(``job_queue.py``), running them (``synthetic.py``, ``worker_fleet.py``), webhooks (``webhook_sender.py``).

Where RunPod's documents disagree: a job over its time to live is deleted in any state, so /status answers 404. A
progress update that comes after the end is ignored. At RunPod it can reopen the job in /status (runpod-python#250); the
fault `reopen` does that here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

EXECUTION_TIMEOUT_S = 600.0
TTL_S = 86_400.0
RETENTION_S = 1800.0
RETENTION_SYNC_S = 60.0
MOST_LOST = 3
"""When so many workers have died under one job, it is FAILED."""


class State(StrEnum):
    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMED_OUT})
RETRYABLE = frozenset({State.FAILED, State.TIMED_OUT})
LARGEST_RESULT = 20_000_000
NOTHING: Any = object()
"""Stands for no value where None is a value."""


@dataclass(slots=True, eq=False)
class Job:
    """A job. Its methods alone change it; each returns whether its step was possible."""

    id: str
    endpoint: str
    input: Any
    submitted_at: float
    webhook: str | None = None
    sync: bool = False
    low_priority: bool = False
    execution_timeout_s: float = EXECUTION_TIMEOUT_S
    ttl_s: float = TTL_S
    s3_config: Any = None
    size: int = 0
    """Bytes of the request that submitted it."""
    state: State = State.IN_QUEUE
    queued_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    output: Any = NOTHING
    error: Any = NOTHING
    progress: Any = NOTHING
    chunks: deque[Any] = field(default_factory=deque)
    worker_id: str | None = None
    attempts: int = 0
    lost: int = 0
    retries: int = 0
    marks: dict[str, float] = field(default_factory=dict)
    """Faults that happen when a worker takes the job: kind -> seconds."""
    repeat: bool = False
    """Its next result is lost, so that it runs once more (fault `run_twice`)."""
    late_progress: Any = NOTHING
    """What /status shows instead of the result (fault `reopen`)."""
    gone: str | None = None
    """Why RunPod no longer knows the job: EXPIRED, PURGED, VANISHED, FORGOTTEN."""

    def __post_init__(self) -> None:
        self.queued_at = self.submitted_at

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def start(self, now: float, worker_id: str) -> bool:
        """A worker takes it."""
        if self.state is not State.IN_QUEUE:
            return False
        self.state, self.started_at, self.worker_id = State.IN_PROGRESS, now, worker_id
        self.attempts += 1
        return True

    def give_back(self, now: float) -> bool:
        """It did not reach its worker, so this was no attempt."""
        if self.state is not State.IN_PROGRESS:
            return False
        self.attempts -= 1
        self._again(now)
        return True

    def report(self, progress: Any) -> bool:
        """The handler's `progress_update`."""
        if self.state is not State.IN_PROGRESS:
            return False
        self.progress = progress
        return True

    def stream(self, chunk: Any) -> bool:
        """A chunk of a generator."""
        if self.state is not State.IN_PROGRESS:
            return False
        self.chunks.append(chunk)
        return True

    def finish(self, now: float, output: Any = NOTHING, error: Any = NOTHING) -> bool:
        """The handler's end: COMPLETED, or FAILED where there is an error. An empty dict as output is dropped."""
        if self.state is not State.IN_PROGRESS:
            return False
        self._end(State.COMPLETED if error is NOTHING else State.FAILED, now)
        self.output, self.error = (NOTHING if output == {} else output), error
        return True

    def cancel(self, now: float) -> bool:
        return not self.ended and self._end(State.CANCELLED, now)

    def time_out(self, now: float) -> bool:
        """Over its execution timeout."""
        if self.state is not State.IN_PROGRESS:
            return False
        self.error = f"job timed out after {self.execution_timeout_s:g} s of execution"
        return self._end(State.TIMED_OUT, now)

    def requeue(self, now: float) -> bool:
        """Run it again: its worker or its result was lost, and the job is not to blame."""
        if self.state is not State.IN_PROGRESS:
            return False
        self.retries += 1
        self._again(now)
        return True

    def lose(self, now: float, how: str) -> bool:
        """Its worker died under it: it goes back to the queue, or is FAILED when this happened too often."""
        if self.state is not State.IN_PROGRESS:
            return False
        self.lost += 1
        if self.lost < MOST_LOST:
            return self.requeue(now)
        return self.finish(now, error=f"the worker {how} while running the job, {self.lost} times; not tried again")

    def retry(self, now: float) -> bool:
        """The operation /retry: for FAILED and TIMED_OUT jobs only; it drops the old outcome."""
        if self.state not in RETRYABLE:
            return False
        self.retries += 1
        self.lost = 0
        self._again(now)
        return True

    def deadline(self, retention_s: float | None = None) -> float:
        """When its time to live, its execution timeout or its retention ends, whichever is next."""
        life = self.submitted_at + self.ttl_s
        if self.state is State.IN_PROGRESS and self.started_at is not None:
            return min(life, self.started_at + self.execution_timeout_s)
        if self.ended_at is not None:
            kept = RETENTION_SYNC_S if self.sync else RETENTION_S
            return min(life, self.ended_at + (kept if retention_s is None else retention_s))
        return life

    def answer(self) -> dict[str, Any]:
        """What /status says."""
        found: dict[str, Any] = {"id": self.id, "status": self.state.value}
        if self.started_at is not None:
            found["delayTime"] = max(0, round((self.started_at - self.submitted_at) * 1000))
            if self.ended_at is not None:
                found["executionTime"] = max(0, round((self.ended_at - self.started_at) * 1000))
        if self.worker_id is not None:
            found["workerId"] = self.worker_id
        if self.retries:
            found["retries"] = self.retries
        if self.late_progress is not NOTHING:
            return {**found, "status": State.IN_PROGRESS.value, "output": self.late_progress}
        shown = self.progress if self.state is State.IN_PROGRESS else self.output
        if shown is not NOTHING:
            found["output"] = shown
        if self.error is not NOTHING:
            found["error"] = self.error
        return found

    def webhook_body(self) -> dict[str, Any]:
        """What the webhook gets."""
        times = {"delayTime": 0, "executionTime": 0}
        return {**times, **self.answer(), "input": self.input, "webhook": self.webhook}

    def described(self) -> dict[str, Any]:
        """What `GET /_simulator/jobs` lists. The status of a job that was deleted before its end is the reason."""
        return {
            "id": self.id,
            "endpoint": self.endpoint,
            "status": self.gone if self.gone and not self.ended else self.state.value,
            "input": self.input,
            "webhook": self.webhook,
            "attempts": self.attempts,
            "submitted_at": self.submitted_at,
            "ended_at": self.ended_at,
        }

    def _end(self, state: State, now: float) -> bool:
        self.state, self.ended_at, self.progress = state, now, NOTHING
        return True

    def _again(self, now: float) -> None:
        self.state, self.queued_at = State.IN_QUEUE, now
        self.started_at = self.ended_at = self.worker_id = None
        self.output = self.error = self.progress = self.late_progress = NOTHING
        self.chunks.clear()
