"""What a face of the account is made of: routes, the calls that come in, the replies that go out. No HTTP library.

Not here: the routes themselves (``*_routes.py``), sending (``management_http.py``).
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from celery_runpod._simulator.management.body_shapes import Shape
from celery_runpod._simulator.management.deployments import Deployments
from celery_runpod._simulator.management.quotas import Quotas
from celery_runpod._simulator.management.simulated_pods import Pod, Pods

LETTERS = string.ascii_lowercase + string.digits


class Problem(Exception):
    """A request that is answered with an error. `errors`: single faults of the body (422)."""

    def __init__(self, status: int, detail: str, errors: Sequence[str] = (), retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `body` has been checked against the route's shape; `base`: the address under which we are known."""

    now: float
    ids: Sequence[str] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    base: str = ""
    last_event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `body` None: no body. `follow`: a pod whose log is the answer."""

    status: int = 200
    body: Any = None
    follow: Follow | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """A log as a stream of events: which pod, which sources, how many lines of it were passed over."""

    pod: Pod
    sources: frozenset[str]
    skip: int


@dataclass(frozen=True, slots=True)
class Route:
    """`path` has `*` for an id. `operation`: its name in faults and counts."""

    method: str
    path: str
    operation: str
    do: Callable[[Call], Reply]
    shape: Shape | None = None
    of_endpoint: bool = False
    """Its id is an endpoint's: a fault may name the endpoint."""


class Table:
    """Routes by path and method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._methods: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in routes:
            self._methods.setdefault(tuple(route.path.split("/")), {})[route.method] = route

    def find(self, path: Sequence[str]) -> tuple[Mapping[str, Route], list[str]]:
        """The routes of a path, by method, and its ids; none where there is no such path."""
        for pattern, methods in self._methods.items():
            if len(pattern) == len(path) and all(part in ("*", word) for part, word in zip(pattern, path, strict=True)):
                return methods, [word for part, word in zip(pattern, path, strict=True) if part == "*"]
        return {}, []


@dataclass(frozen=True, slots=True)
class Account:
    """What an account has: what the routes show."""

    pods: Pods
    deployments: Deployments
    quotas: Quotas = field(default_factory=Quotas)

    def pod(self, call: Call) -> Pod:
        """The pod of a call; `Problem` 404 where there is none."""
        found = self.pods.find(call.ids[0], call.now)
        if found is None:
            raise Problem(404, "pod not found")
        return found

    def reset(self) -> None:
        self.pods.reset()
        self.deployments.reset()
        self.quotas.reset()


def new_id() -> str:
    """An id as RunPod's: 14 small letters and digits."""
    return "".join(secrets.choice(LETTERS) for _ in range(14))


def rfc3339(at: float) -> str:
    """A time as RunPod writes it, in milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def flag(query: Mapping[str, str], name: str) -> bool:
    """A bool of the query; `Problem` 400 for anything else."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise Problem(400, f"{name}: value must be true or false")
    return text == "true"
