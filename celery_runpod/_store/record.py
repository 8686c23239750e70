"""What a job's record holds, as a dataclass, and how it stands in the Redis hash.

Not here: how a record changes (``store.py``). Every field is text in Redis; nothing that can be derived is stored.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_runpod._protocol import FORMAT
from celery_runpod._store.states import OUTCOMES, State
from celery_runpod.options import Options

log = logging.getLogger(__name__)


HIGHEST_PRIORITY = 9
PRIORITY_STEP_S = 1e10
"""Longer than the time since 1970: each priority has a range of turns of its own."""


@dataclass(frozen=True)
class Job:
    """One record. Times are seconds since 1970; `input` is None once it can no longer be submitted.

    Calls with one idempotency key share one job: it has a record of its own, without a continuation, in which `shares`
    is the key's hash; the record of each call has in `joined` the id of that record.

    `group_ids` are those by which a cancel reaches the job, beside its own and its root's: its groups, what follows it,
    its stamps.

    `priority` is that of the call's message, from 0 to 9.

    `begun_at` is when the call, or the first call of its chain, was published. `hinted_at` is when the first webhook said
    that the attempt has ended.

    `generation` is how often the job was run again by hand: 0 for a call, one more for each `runpod.retry`.

    `started_at` is since when a RunPod worker works on it, as far as a look has shown.

    What the latest looks left: `missing_since`, when RunPod's answers 404 began; `failures`, how often in a row the work
    on it raised."""

    task_id: str
    endpoint: str
    name: str
    root_id: str
    continuation: str
    options: Options
    accepted_at: float
    not_before: float
    end_by: float
    start_by: float | None = None
    expires_at: float | None = None
    group_ids: tuple[str, ...] = ()
    api_key_name: str | None = None
    ignore_result: bool = False
    begun_at: float = 0.0
    priority: int = 0
    input: Any = field(default=None, repr=False)
    state: State = State.WAITING
    attempt: int = 0
    retried: int = 0
    generation: int = 0
    joined: str = ""
    shares: str = ""
    job_id: str | None = None
    checks: int = 0
    submitted_at: float | None = None
    started_at: float | None = None
    window_ends: float | None = None
    reason: str = ""
    progress: str = ""
    missing_since: float | None = None
    failures: int = 0
    hinted_at: float | None = None
    outcome: dict[str, Any] | None = field(default=None, repr=False)
    ended_at: float | None = None

    def to_fields(self) -> dict[str, str]:
        """The hash of a new record."""
        fields: dict[str, str] = {
            "format": str(FORMAT),
            "state": self.state,
            "attempt": str(self.attempt),
            "name": self.name,
            "root_id": self.root_id,
            "group_ids": json.dumps(list(self.group_ids)),
            "continuation": self.continuation,
            "options": json.dumps(self.options.to_message()),
            "accepted_at": repr(self.accepted_at),
            "not_before": repr(self.not_before),
            "begun_at": repr(self.begun_at),
            "end_by": repr(self.end_by),
            "checks": "0",
        }
        optional = {
            "start_by": None if self.start_by is None else repr(self.start_by),
            "expires_at": None if self.expires_at is None else repr(self.expires_at),
            "api_key_name": self.api_key_name,
            "reason": self.reason or None,
            "generation": str(self.generation) if self.generation else None,
            "priority": str(self.priority) if self.priority else None,
            "joined": self.joined or None,
            "shares": self.shares or None,
            "stream": "1" if self.options.stream else None,
            "ignore_result": "1" if self.ignore_result else None,
            "input": json.dumps(self.input) if self.state is State.WAITING else None,
            "outcome": None if self.outcome is None else json.dumps(self.outcome),
        }
        return fields | {name: value for name, value in optional.items() if value is not None}

    @classmethod
    def from_fields(cls, endpoint: str, task_id: str, raw: Mapping[str, str]) -> Job | None:
        """The record in a hash; None for a tombstone, and for a format that is newer than this version's."""
        if int(raw.get("format", 0)) > FORMAT:
            log.warning("record of task %s has format %s: left to a newer version", task_id, raw.get("format"))
            return None
        state = State(raw["state"])
        if state is State.DELIVERED:
            return None
        if state is State.WAITING and raw["continuation"]:
            # A job whose outcome cannot be handed over must not be paid for.
            json.loads(raw["continuation"])
        return cls(
            task_id=task_id,
            endpoint=endpoint,
            name=raw["name"],
            root_id=raw["root_id"],
            continuation=raw["continuation"],
            options=Options.parse(json.loads(raw["options"])),
            accepted_at=float(raw["accepted_at"]),
            not_before=float(raw["not_before"]),
            end_by=float(raw["end_by"]),
            begun_at=float(raw.get("begun_at") or raw["accepted_at"]),
            start_by=_number(raw.get("start_by")),
            expires_at=_number(raw.get("expires_at")),
            group_ids=tuple(json.loads(raw["group_ids"])),
            api_key_name=raw.get("api_key_name") or None,
            ignore_result=raw.get("ignore_result") == "1",
            input=json.loads(raw["input"]) if "input" in raw else None,
            state=state,
            attempt=int(raw["attempt"]),
            retried=int(raw.get("retried", 0)),
            generation=int(raw.get("generation", 0)),
            priority=int(raw.get("priority", 0)),
            joined=raw.get("joined", ""),
            shares=raw.get("shares", ""),
            job_id=raw.get("job_id") or None,
            checks=int(raw.get("checks", 0)),
            submitted_at=_number(raw.get("submitted_at")),
            started_at=_number(raw.get("started_at")),
            window_ends=_number(raw.get("window_ends")),
            reason=raw.get("reason", ""),
            progress=raw.get("progress", ""),
            missing_since=_number(raw.get("missing_since")),
            failures=int(raw.get("failures", 0)),
            hinted_at=_number(raw.get("hinted_at")),
            outcome=json.loads(raw["outcome"]) if "outcome" in raw else None,
            ended_at=_number(raw.get("ended_at")),
        )

    def stamps(self) -> list[str]:
        """The caller's stamps, each as `header=value`."""
        options = json.loads(self.continuation).get("options", {}) if self.continuation else {}
        return stamps_of({name: options.get(name) for name in options.get("stamped_headers") or ()})

    @property
    def labels(self) -> tuple[str, ...]:
        """The caller's labels."""
        return self.options.labels or ()

    @property
    def turn(self) -> float:
        """Its place in the order of the submits: by Celery's priority (9 goes first), then by the time from which on it
        may be submitted."""
        return (HIGHEST_PRIORITY - self.priority) * PRIORITY_STEP_S + self.not_before

    @property
    def ended(self) -> bool:
        return self.state in OUTCOMES


LIGHT = (
    *("format", "state", "attempt", "name", "root_id", "group_ids", "options", "accepted_at", "not_before", "begun_at"),
    *("end_by", "checks", "start_by", "expires_at", "api_key_name", "reason", "generation", "joined", "shares"),
    *(
        "ignore_result",
        "retried",
        "job_id",
        "submitted_at",
        "started_at",
        "window_ends",
        "missing_since",
        "priority",
    ),
    *("failures", "hinted_at", "ended_at", "verdict", "delay_s", "execution_s"),
)
"""The fields of record and tombstone without those that may be large: input, outcome, continuation, progress."""


def light_hash(values: Sequence[str | None]) -> dict[str, str]:
    """The hash of an HMGET of `LIGHT`; empty where there is no record."""
    raw = {name: value for name, value in zip(LIGHT, values, strict=True) if value is not None}
    return {**raw, "continuation": ""} if "state" in raw else {}


@dataclass(frozen=True)
class Tombstone:
    """What is left of a job whose end has reached the caller; times in seconds."""

    task_id: str
    endpoint: str
    name: str
    verdict: str
    attempt: int = 0
    job_id: str | None = None
    checks: int | None = None
    ended_at: float | None = None
    delay_s: float | None = None
    execution_s: float | None = None

    @classmethod
    def from_fields(cls, endpoint: str, task_id: str, raw: Mapping[str, str]) -> Tombstone:
        return cls(
            task_id=task_id,
            endpoint=endpoint,
            name=raw.get("name") or endpoint,
            verdict=raw.get("verdict", ""),
            attempt=int(raw.get("attempt", 0)),
            job_id=raw.get("job_id") or None,
            checks=int(raw["checks"]) if "checks" in raw else None,
            ended_at=_number(raw.get("ended_at")),
            delay_s=_number(raw.get("delay_s")),
            execution_s=_number(raw.get("execution_s")),
        )


def read_light(endpoint: str, task_id: str, raw: Mapping[str, str]) -> Job | Tombstone | None:
    """What stands in the `LIGHT` fields of a hash; None where there is nothing, or a format that is newer than this
    version's."""
    if raw.get("state") == State.DELIVERED:
        return Tombstone.from_fields(endpoint, task_id, raw)
    return Job.from_fields(endpoint, task_id, {**raw, "continuation": ""}) if raw else None


def stamps_of(headers: Mapping[str, Any]) -> list[str]:
    """Headers, whose values may be lists, as `header=value`."""
    return [
        f"{name}={value}"
        for name, values in headers.items()
        for value in (values if isinstance(values, list | tuple) else [values])
    ]


def _number(text: str | None) -> float | None:
    return float(text) if text else None
