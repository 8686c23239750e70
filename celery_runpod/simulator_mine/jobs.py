"""bridge"""
from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
EXECUTION_TIMEOUT_S, TTL_S = 600.0, 86_400.0
RETENTION_RUN_S, RETENTION_SYNC_S = 1800.0, 60.0
MOST_CRASHES = 3


@dataclass
class Job:
    id: str
    endpoint: str
    input: Any
    submitted_at: float
    webhook: str | None = None
    execution_timeout_s: float = EXECUTION_TIMEOUT_S
    ttl_s: float = TTL_S
    low_priority: bool = False
    sync: bool = False
    status: str = "IN_QUEUE"
    attempts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    worker_id: str | None = None
    output: Any = None
    has_output: bool = False
    error: Any = None
    chunks: deque[Any] = field(default_factory=deque)

    def start(self, now: float, worker_id: str) -> None:
        self.status, self.started_at, self.worker_id = "IN_PROGRESS", now, worker_id
        self.attempts += 1

    def end(self, status: str, now: float) -> bool:
        if self.status in FINAL:
            return False
        self.status, self.ended_at = status, now
        return True

    def complete(self, output: Any, now: float) -> bool:
        if not self.end("COMPLETED", now):
            return False
        self.output, self.has_output = output, output != {}
        return True

    def fail(self, error: Any, now: float) -> bool:
        if not self.end("FAILED", now):
            return False
        self.error, self.output, self.has_output = error, None, False
        return True

    def crashed(self, now: float) -> bool:
        if self.status in FINAL:
            return False
        if self.attempts >= MOST_CRASHES:
            self.fail(json.dumps({"error_message": f"worker exited while running the job, {self.attempts} times"}), now)
            return False
        self.status, self.started_at, self.worker_id = "IN_QUEUE", None, None
        return True

    def again(self, now: float) -> None:
        self.status, self.submitted_at, self.started_at, self.ended_at = "IN_QUEUE", now, None, None
        self.output, self.has_output, self.error = None, False, None
        self.chunks.clear()

    def next_deadline(self, retention_s: float | None) -> float:
        if self.ended_at is not None:
            return self.ended_at + self.retention_s(retention_s)
        lives_until = self.submitted_at + self.ttl_s
        if self.started_at is None:
            return lives_until
        return min(lives_until, self.started_at + self.execution_timeout_s)

    def retention_s(self, given: float | None) -> float:
        return given if given is not None else (RETENTION_SYNC_S if self.sync else RETENTION_RUN_S)

    def answer(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.started_at is not None:
            shown["delayTime"] = round((self.started_at - self.submitted_at) * 1000)
            shown["workerId"] = self.worker_id
            if self.ended_at is not None:
                shown["executionTime"] = round((self.ended_at - self.started_at) * 1000)
        if self.has_output:
            shown["output"] = self.output
        if self.error is not None:
            shown["error"] = self.error
        return shown
