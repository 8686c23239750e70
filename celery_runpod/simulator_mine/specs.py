"""bridge"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class WrongSpec(ValueError):
    pass


@dataclass(frozen=True)
class Synthetic:
    duration: float = 1.0
    jitter: float = 0.0
    delay: float = 0.0
    failures: float = 0.0
    output_bytes: int = 0
    workers: int = 0


@dataclass(frozen=True)
class Handler:
    path: Path
    workers: int = 3
    idle: float = 5.0


@dataclass(frozen=True)
class Spec:
    name: str
    kind: Synthetic | Handler


def parse_spec(text: str) -> Spec:
    name, _, rest = text.partition("=")
    def nums(t):
        return {k: float(v) for k, v in (p.split("=") for p in t.split(",") if p)}
    if rest.startswith("synthetic"):
        n = nums(rest[len("synthetic:"):])
        return Spec(name, Synthetic(**{k: int(v) if k in ("workers", "output_bytes") else v for k, v in n.items()}))
    file, _, o = rest.partition(",")
    n = nums(o)
    return Spec(name, Handler(Path(file).resolve(), int(n.get("workers", 3)), n.get("idle", 5.0)))
