"""What a job's record holds, as a dataclass, and how it stands in the Redis hash.

Not here: how a record changes (``store.py``). Every field is text in Redis, by its type (`FORM_OF_TYPE`); nothing
that can be derived is stored.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, NamedTuple, get_type_hints

from celery_runpod._protocol import FORMAT
from celery_runpod._store.states import OUTCOMES, State
from celery_runpod.options import Options

log = logging.getLogger(__name__)


HIGHEST_PRIORITY = 9
PRIORITY_STEP_S = 1e10
"""Longer than the time since 1970: each priority has a range of turns of its own."""


@dataclass(frozen=True)
class JobRecord:
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
        found = {"format": str(FORMAT), **({"stream": "1"} if self.options.stream else {})}
        for name, form in FORMS.items():
            value = getattr(self, name)
            if name in REQUIRED or value != DEFAULTS[name]:
                found[name] = form.write(value)
        if self.state is not State.WAITING:
            found.pop("input", None)
        return found

    @classmethod
    def from_fields(cls, endpoint: str, task_id: str, raw: Mapping[str, str]) -> JobRecord | None:
        """The record in a hash; None for a tombstone, and for a format that is newer than this version's.

        Raises:
            Exception: it cannot be read. A record of another version may be wrong in any way.
        """
        if int(raw.get("format", 0)) > FORMAT:
            log.warning("record of task %s has format %s: left to a newer version", task_id, raw.get("format"))
            return None
        if raw["state"] == State.DELIVERED:
            return None
        if not raw.keys() >= REQUIRED:
            raise ValueError(f"it lacks {', '.join(sorted(REQUIRED - raw.keys()))}")
        if raw["state"] == State.WAITING and raw["continuation"]:
            # A job whose outcome cannot be handed over must not be paid for.
            json.loads(raw["continuation"])
        # What Lua has set to "" is not given.
        found = {name: read(text) for name, text in raw.items() if text and (read := READERS.get(name))}
        found.setdefault("continuation", "")
        found.setdefault("begun_at", found["accepted_at"])
        return cls(task_id=task_id, endpoint=endpoint, **found)

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


class Form(NamedTuple):
    """How a value stands in the hash."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]


TEXT, NUMBER, JSON = Form(str, str), Form(float, repr), Form(json.loads, json.dumps)
FORM_OF_TYPE: dict[Any, Form] = {
    str: TEXT,
    str | None: TEXT,
    int: Form(int, str),
    float: NUMBER,
    float | None: NUMBER,
    bool: Form(lambda text: text == "1", lambda _: "1"),
    tuple[str, ...]: Form(lambda text: tuple(json.loads(text)), lambda some: json.dumps(list(some))),
    dict[str, Any] | None: JSON,
    Any: JSON,
    State: Form(State, str),
    Options: Form(lambda text: Options.parse(json.loads(text)), lambda options: json.dumps(options.to_message())),
}
DEFAULTS = {one.name: one.default for one in fields(JobRecord)}
FORMS = {
    name: FORM_OF_TYPE[kind] for name, kind in get_type_hints(JobRecord).items() if name not in ("task_id", "endpoint")
}
"""Each field of a record, by its type; task id and endpoint stand in the key."""
READERS = {name: form.read for name, form in FORMS.items()}
REQUIRED = {"state", "attempt", "group_ids", "checks"} | {name for name in FORMS if DEFAULTS[name] is MISSING}
"""Written into each new record. One without them cannot be read."""
LARGE = frozenset({"input", "outcome", "continuation", "progress"})
LIGHT = ("format", *(name for name in FORMS if name not in LARGE), "verdict", "delay_s", "execution_s")
"""The fields of record and tombstone without those that may be large."""


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


def read_light(endpoint: str, task_id: str, raw: Mapping[str, str]) -> JobRecord | Tombstone | None:
    """What stands in the `LIGHT` fields of a hash; None where there is nothing, or a format that is newer than this
    version's."""
    if raw.get("state") == State.DELIVERED:
        return Tombstone.from_fields(endpoint, task_id, raw)
    return JobRecord.from_fields(endpoint, task_id, {**raw, "continuation": ""}) if raw else None


def stamps_of(headers: Mapping[str, Any]) -> list[str]:
    """Headers, whose values may be lists, as `header=value`."""
    return [
        f"{name}={value}"
        for name, values in headers.items()
        for value in (values if isinstance(values, list | tuple) else [values])
    ]


def _number(text: str | None) -> float | None:
    return float(text) if text else None
