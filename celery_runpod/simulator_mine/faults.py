"""bridge"""
from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REQUEST_KINDS = frozenset({"status", "body", "delay", "drop_before", "drop_after", "truncate", "vanish", "run_twice"})
WEBHOOK_KINDS = frozenset({"duplicate", "late", "early", "reorder"})


class WrongFault(ValueError):
    pass


@dataclass
class Fault:
    id: str
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
    seconds: float = 1.0
    seen: int = 0
    struck: int = 0
    _random: random.Random = field(default_factory=random.Random, repr=False)

    @classmethod
    def parse(cls, fault_id: str, given: Any) -> Fault:
        rule = {name: value for name, value in given.items() if value is not None}
        return cls(id=fault_id, _random=random.Random(rule.get("seed")), **rule)

    def strikes(self, endpoint: str, operation: str, kinds: frozenset[str]) -> bool:
        if self.kind not in kinds or self.endpoint not in ("*", endpoint) or self.operation not in ("*", operation):
            return False
        if self.times is not None and self.struck >= self.times:
            return False
        self.seen += 1
        if self.seen % self.every or self._random.random() >= self.probability:
            return False
        self.struck += 1
        return True


class Faults:
    def __init__(self) -> None:
        self.rules: dict[str, Fault] = {}
        self._last = 0

    def add(self, given: Any) -> str:
        self._last += 1
        fault = Fault.parse(f"fault-{self._last}", given)
        self.rules[fault.id] = fault
        return fault.id

    def load(self, path: Any) -> None:
        raise NotImplementedError

    def striking(self, endpoint: str, operation: str, kinds: frozenset[str]) -> list[Fault]:
        if not self.rules:
            return []
        return [fault for fault in self.rules.values() if fault.strikes(endpoint, operation, kinds)]
