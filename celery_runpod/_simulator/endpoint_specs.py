"""Parses `--endpoint NAME=...`, so that a mistake is reported before the server starts.

Three kinds: a handler file that worker processes run, `external` for workers that join from outside (a Docker image),
and `synthetic`, which needs no process. Not here: running them (``worker_fleet.py``, ``synthetic.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from celery_runpod.errors import ConfigurationError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
RESERVED = frozenset(
    {"account", "billing", "catalog", "clusters", "network-volumes", "pods", "registries", "serverless", "templates"}
)
"""First words of the management API's paths, so not names of endpoints: docs.runpod.io/api-reference-v2."""
SHAPE = (
    "NAME=path/to/handler.py[,workers=3,idle=5], NAME=external or "
    "NAME=synthetic[:duration=1,jitter=0,delay=0,failures=0,output_bytes=0,workers=0]"
)
ANY = math.inf


@dataclass(frozen=True, slots=True)
class Synthetic:
    """An endpoint without processes. Times in seconds; `workers` 0 is no limit; `failures` is a fraction."""

    name: str
    duration: float = 1.0
    jitter: float = 0.0
    delay: float = 0.0
    failures: float = 0.0
    output_bytes: int = 0
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Handler:
    """An endpoint that worker processes serve; without a path, workers from outside. `idle` in seconds."""

    name: str
    path: Path | None
    workers: int = 3
    idle: float = 5.0


Spec = Synthetic | Handler

SYNTHETIC_OPTIONS: dict[str, tuple[float, float]] = {
    "duration": (0, ANY),
    "jitter": (0, ANY),
    "delay": (0, ANY),
    "failures": (0, 1),
    "output_bytes": (0, 1_000_000_000),
    "workers": (0, 1_000_000),
}
HANDLER_OPTIONS: dict[str, tuple[float, float]] = {"workers": (1, 100), "idle": (0, ANY)}
WHOLE = frozenset({"workers", "output_bytes"})


def parse(texts: Iterable[str]) -> list[Spec]:
    """The endpoints of a command line.

    Raises:
        ConfigurationError: with the endpoint, what was given and what is allowed.
    """
    specs: dict[str, Spec] = {}
    for text in texts:
        spec = parse_one(text)
        if spec.name in specs:
            raise ConfigurationError(f"endpoint {spec.name!r} is given twice; every name once")
        specs[spec.name] = spec
    return list(specs.values())


def parse_one(text: str) -> Spec:
    """One `NAME=...`."""
    name, equals, rest = text.partition("=")
    if not equals or not rest or not NAME.fullmatch(name):
        raise ConfigurationError(f"endpoint {text!r}: not understood; allowed: {SHAPE} (NAME of letters, digits, _.-)")
    if name in RESERVED:
        raise ConfigurationError(
            f"endpoint {name!r}: the name is a path of RunPod's management API (/v2/{name}); "
            f"allowed: any name but {', '.join(sorted(RESERVED))}"
        )
    kind, _, tail = rest.partition(":")
    if kind == "synthetic":
        found = _options(name, tail, SYNTHETIC_OPTIONS)
        whole = {key: int(value) for key, value in found.items() if key in WHOLE}
        return Synthetic(name, **{**found, **whole})  # type: ignore[arg-type]
    if rest == "external":
        return Handler(name, None, workers=0)
    path_text, _, tail = rest.partition(",")
    path = Path(path_text).resolve()
    if not path.is_file():
        raise ConfigurationError(f"endpoint {name!r}: there is no handler file {path_text!r}; allowed: {SHAPE}")
    found = _options(name, tail, HANDLER_OPTIONS)
    return Handler(name, path, workers=int(found.get("workers", 3)), idle=found.get("idle", 5.0))


def _options(name: str, text: str, allowed: dict[str, tuple[float, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(",") if text else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in allowed or not equals:
            names = ", ".join(f"{option}=NUMBER" for option in allowed)
            raise ConfigurationError(f"endpoint {name!r}: option {part!r} given; allowed: {names}")
        low, high = allowed[key]
        bound = f"from {low:g} up" if high == ANY else f"from {low:g} to {high:g}"
        kind = "a whole number" if key in WHOLE else "a number"
        try:
            number = int(value) if key in WHOLE else float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high or number == ANY:
            raise ConfigurationError(f"endpoint {name!r}: {key}={value} given; allowed: {kind} {bound}")
        found[key] = number
    return found
