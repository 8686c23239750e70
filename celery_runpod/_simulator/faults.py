"""Faults on demand: rules that say what goes wrong, where, and how often. Pure; chance is seeded.

Not here: what then happens (``gateway.py``, ``job_routes.py``, ``worker_protocol.py``, ``webhook_sender.py``,
``simulated_endpoint.py``).

What each kind does, and where, is the table in `docs/simulator.md`. Of the rules of one kind that match, the first that
acts is the only one that is counted as done.

A fault `status_after` exists because RunPod's POST of a pod can create it and answer 500 (transformerlab-app#2305), and
`reopen` because a late progress update can lie over a result (runpod-python#250).
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SUBMITS = frozenset({"run", "runsync"})
OF_A_JOB = frozenset({"status", "status-sync", "stream", "cancel", "retry"})
OF_AN_ENDPOINT = frozenset({"purge-queue", "health", "requests"})
OF_PODS = frozenset(f"pods.{name}" for name in ("list", "get", "create", "update", "action", "delete", "logs"))
OF_SERVERLESS = frozenset(f"serverless.{name}" for name in ("list", "get", "create", "update", "delete", "workers"))
OF_REPORTS = frozenset({"catalog.gpus", "catalog.gpu", "billing.pods", "billing.serverless"})
MANAGEMENT = OF_PODS | OF_SERVERLESS | OF_REPORTS
"""Operations of the management API."""
OPERATIONS = SUBMITS | OF_A_JOB | OF_AN_ENDPOINT | MANAGEMENT | {"webhook", "worker"}

ANSWERS = frozenset({"status", "body", "delay", "drop_before", "drop_after", "truncate"})
STATUS_AFTER = frozenset({"status_after"})
OF_A_RUN = frozenset({"run_twice", "crash"})
OF_A_WEBHOOK = frozenset({"duplicate", "late", "early", "reorder"})
OF_CHUNKS = frozenset({"part"})
AT_END = frozenset({"reopen"})
"""Worker faults that act when a job ends."""
KINDS = ANSWERS | STATUS_AFTER | OF_A_RUN | OF_A_WEBHOOK | OF_CHUNKS | AT_END | {"vanish"}

AT_SEND = OF_A_WEBHOOK - {"early"}
"""Webhook faults that act once for each end of a job; those of `ANSWERS` act on each try."""
AT_TAKE = OF_A_RUN | {"vanish", "delay"}
"""Worker faults that act when a job is taken."""
AT_RESULT = ANSWERS - {"delay"}
"""Worker faults that act when a result is posted."""

SECONDS = {"delay": 1.0, "late": 5.0, "early": 1.0, "reorder": 5.0, "crash": 0.0, "vanish": 0.0}
"""Default of `seconds`, by kind."""


HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FRAMING = frozenset({"content-length", "transfer-encoding"})
"""Headers that say where an answer ends: another value would spoil the next answer on the connection too."""
SURROGATE = re.compile("[\ud800-\udfff]")


class BadFault(ValueError):
    """A rule that makes no sense. The text names the field, what was given and what is allowed."""


def kinds_at(operation: str) -> frozenset[str]:
    """The kinds that mean something at an operation."""
    if operation == "*":
        return KINDS
    if operation == "webhook":
        return ANSWERS | OF_A_WEBHOOK
    if operation == "worker":
        return ANSWERS | OF_A_RUN | AT_END | {"vanish"}
    at_a_request = ANSWERS | STATUS_AFTER
    if operation in SUBMITS:
        return at_a_request | OF_A_RUN | {"vanish"}
    if operation == "stream":
        return at_a_request | OF_CHUNKS | {"vanish"}
    return at_a_request | {"vanish"} if operation in OF_A_JOB else at_a_request


@dataclass(slots=True)
class Fault:
    """One rule: counts what matches, and acts on every `every`-th, with its probability, at most `times` times."""

    kind: str
    endpoint: str = "*"
    operation: str = "*"
    probability: float = 1.0
    every: int = 1
    times: int | None = None
    seed: int | None = None
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    seconds: float | None = None
    id: str = ""
    seen: int = 0
    done: int = 0
    chance: random.Random = field(default_factory=random.Random, repr=False)

    @property
    def seconds_s(self) -> float:
        return SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds

    def matches(self, endpoint: str, operation: str) -> bool:
        return self.endpoint in ("*", endpoint) and self.operation in ("*", operation)

    def acts(self) -> bool:
        """Count one match, and say whether the fault happens."""
        if self.times is not None and self.done >= self.times:
            return False
        self.seen += 1
        if self.seen % self.every or self.chance.random() >= self.probability:
            return False
        self.done += 1
        return True

    def described(self) -> dict[str, Any]:
        found = {name: value for name, value in asdict(self).items() if name != "chance"}
        return {**found, "seconds": self.seconds_s}


def parse(rule: Any) -> Fault:
    """A rule from JSON or TOML.

    Raises:
        BadFault: see there.
    """
    if not isinstance(rule, Mapping):
        raise BadFault(f"a fault is an object, {type(rule).__name__} given")
    if unknown := sorted(set(rule) - FIELDS.keys()):
        raise BadFault(f"unknown field {unknown[0]!r}; allowed: {', '.join(FIELDS)}")
    if "kind" not in rule:
        raise BadFault(f"the field 'kind' is missing; allowed: {', '.join(sorted(KINDS))}")
    for name, value in rule.items():
        wanted, possible = FIELDS[name]
        if not possible(value):
            raise BadFault(f"field {name!r}: {value!r} given; allowed: {wanted}")
    given = {name: value for name, value in rule.items() if value is not None}
    fault = Fault(**given)
    if fault.kind not in (allowed := kinds_at(fault.operation)):
        raise BadFault(
            f"kind {fault.kind!r} means nothing at operation {fault.operation!r}; allowed: {', '.join(sorted(allowed))}"
        )
    if fault.endpoint != "*" and fault.operation in MANAGEMENT - OF_SERVERLESS:
        raise BadFault(f"operation {fault.operation!r} is of no endpoint: field 'endpoint' must be '*'")
    if fault.kind == "body" and fault.body is None:
        raise BadFault("a fault of kind 'body' needs the field 'body': any text")
    if fault.seed is not None:
        fault.chance.seed(fault.seed)
    return fault


class Faults:
    """The rules in force, in the order they were given."""

    def __init__(self) -> None:
        self.rules: dict[str, Fault] = {}
        self._number = 0

    def add(self, rule: Any) -> Fault:
        """Put a rule in force; raises `BadFault`."""
        fault = parse(rule)
        self._number += 1
        fault.id = f"fault-{self._number}"
        self.rules[fault.id] = fault
        return fault

    def remove(self, fault_id: str | None = None) -> bool:
        """Remove one rule, or all."""
        if fault_id is None:
            self.rules.clear()
            return True
        return self.rules.pop(fault_id, None) is not None

    def at(self, endpoint: str, operation: str, kinds: Collection[str] | None = None) -> dict[str, Fault]:
        """What goes wrong now, by kind. At most one of these faults decides the answer; the others come with it."""
        if not self.rules:
            return {}
        possible = kinds_at(operation) if kinds is None else kinds
        found: dict[str, Fault] = {}
        decided = False
        for fault in self.rules.values():
            decides = fault.kind in ANSWERS | STATUS_AFTER and fault.kind != "delay"
            if fault.kind not in possible or fault.kind in found or (decides and decided):
                continue
            if fault.matches(endpoint, operation) and fault.acts():
                found[fault.kind] = fault
                decided = decided or decides
        return found


def _number(low: float, high: float, *, whole: bool = False) -> Any:
    def possible(value: Any) -> bool:
        kinds = (int,) if whole else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high

    return possible


def _optional(possible: Any) -> Any:
    return lambda value: value is None or possible(value)


def _operation(value: Any) -> bool:
    return isinstance(value, str) and (value == "*" or value in OPERATIONS)


def _headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(text, str) and text.isprintable() and HEADER.fullmatch(name) and name.lower() not in FRAMING
        for name, text in value.items()
    )


def _text(value: Any) -> bool:
    """Whether it is a text that can be sent: a JSON text may hold half a character."""
    return isinstance(value, str) and not SURROGATE.search(value)


FIELDS: dict[str, tuple[str, Any]] = {
    "kind": (", ".join(sorted(KINDS)), lambda value: isinstance(value, str) and value in KINDS),
    "endpoint": ("the name of an endpoint, or '*'", lambda value: isinstance(value, str) and bool(value)),
    "operation": (", ".join([*sorted(OPERATIONS - MANAGEMENT), *sorted(MANAGEMENT), "*"]), _operation),
    "probability": ("a number from 0 to 1", _number(0, 1)),
    "every": ("a whole number from 1 up", _number(1, 10**9, whole=True)),
    "times": ("a whole number from 1 up, or null for ever", _optional(_number(1, 10**9, whole=True))),
    "seed": ("a whole number, or null", _optional(_number(-(2**63), 2**63, whole=True))),
    "status": ("a whole number from 200 to 599", _number(200, 599, whole=True)),
    "headers": ("an object of texts, without line breaks, Content-Length and Transfer-Encoding", _optional(_headers)),
    "body": ("a text", _optional(_text)),
    "seconds": ("a number from 0 to 86400", _optional(_number(0, 86_400))),
}
"""Field -> what is allowed, and whether a value is."""
