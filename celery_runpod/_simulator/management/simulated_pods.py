"""One pod's life, from create to gone. Pure: the time is an argument.

    PROVISIONING --> STARTING --> RUNNING      by time alone
    PROVISIONING, STARTING, RUNNING -stop-> EXITED -start-> STARTING
    RUNNING -restart-> STARTING
    any -terminate-> TERMINATED --> gone       by time alone

The steps and their names are those of docs.runpod.io/api-reference-v2/pods. A pod costs its price from create to stop,
and from start on. Not here: bodies and answers (``pod_routes.py``), what it costs (``billing.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Status(StrEnum):
    PROVISIONING = "PROVISIONING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    EXITED = "EXITED"
    TERMINATED = "TERMINATED"


ACTIONS: dict[Status, tuple[str, ...]] = {
    Status.PROVISIONING: ("stop", "terminate"),
    Status.STARTING: ("stop", "terminate"),
    Status.RUNNING: ("stop", "restart", "terminate"),
    Status.EXITED: ("start", "terminate"),
    Status.TERMINATED: (),
}
LOCKED_OUT = frozenset({"stop", "restart"})
"""What a locked pod does not do."""
RESETTING = frozenset({"image", "args", "disk", "ports", "env", "registry"})
"""A change of these restarts the container."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the steps of a pod take, in seconds."""

    provisioning_s: float = 1.0
    starting_s: float = 2.0
    terminated_s: float = 2.0
    """So long a terminated pod can still be looked at."""


class Line(NamedTuple):
    """A line of the log: when, `container` or `system`, text."""

    at: float
    source: str
    text: str


@dataclass(slots=True)
class Run:
    """A time for which the pod costs its price; without an end it goes on."""

    start: float
    end: float = math.inf


@dataclass(slots=True)
class PodSpec:
    """What was asked for; later changed by PATCH. `gpu` or `cpu`, never both; `mounts` in the shape of the API."""

    name: str
    image: str
    price_per_h: float
    data_center: str
    gpu: tuple[str, int] | None = None
    """GPU type and count."""
    cpu: tuple[str, int] | None = None
    """CPU flavor and vCPUs."""
    args: str = ""
    disk: int = 50
    ports: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    registry: str | None = None
    mounts: dict[str, Any] = field(default_factory=dict)
    cloud: str = "SECURE"
    template: str | None = None
    locked: bool = False
    global_networking: bool = False

    @property
    def volume_gb(self) -> int:
        """The pod's own volume; a network volume is not the pod's."""
        return int(self.mounts["persistent"]["size"]) if "persistent" in self.mounts else 0


class Pod:
    """`number` is unique: public ports are made from it."""

    def __init__(self, pod_id: str, number: int, spec: PodSpec, now: float, pace: Pace) -> None:
        self.id = pod_id
        self.number = number
        self.spec = spec
        self.pace = pace
        self.created_at = now
        self.terminated_at: float | None = None
        self.runs = [Run(now)]
        self.placed_at = now + pace.provisioning_s
        self.up_at = self.placed_at + pace.starting_s
        self.lines: list[Line] = []
        self._log(now, "system", f"create pod {pod_id}")
        self._boot()

    def status(self, now: float) -> Status:
        if self.terminated_at is not None:
            return Status.TERMINATED
        if self.runs[-1].end <= now:
            return Status.EXITED
        if now < self.placed_at:
            return Status.PROVISIONING
        return Status.STARTING if now < self.up_at else Status.RUNNING

    def actions(self, now: float) -> list[str]:
        """What can be asked for now."""
        return [found for found in ACTIONS[self.status(now)] if not (self.spec.locked and found in LOCKED_OUT)]

    def act(self, action: str, now: float) -> bool:
        """`start`, `stop`, `restart` or `terminate`; whether the step was possible."""
        if action not in self.actions(now):
            return False
        if action == "start":
            self.runs.append(Run(now))
            self._start(now)
        elif action == "restart":
            self._log(now, "system", "stop container")
            self._start(now)
        else:
            self._end(action, now)
        return True

    def update(self, changes: Mapping[str, Any], now: float) -> None:
        """Change fields of the spec; a running container is restarted where it must be."""
        resets = any(getattr(self.spec, name) != value for name, value in changes.items() if name in RESETTING)
        for name, value in changes.items():
            setattr(self.spec, name, value)
        if resets and self.status(now) is Status.RUNNING:
            self._log(now, "system", "stop container")
            self._start(now)

    def gone(self, now: float) -> bool:
        """RunPod no longer knows it."""
        return self.terminated_at is not None and self.terminated_at + self.pace.terminated_s <= now

    def cost_per_h(self, now: float) -> float:
        """USD; 0 while it is stopped, and after its end."""
        return 0.0 if self.status(now) in (Status.EXITED, Status.TERMINATED) else self.spec.price_per_h

    def started_at(self, now: float) -> float | None:
        """When the container last came up; None before it first did."""
        return self.up_at if self.up_at <= now else None

    def log(self, now: float) -> list[Line]:
        """The lines so far, oldest first."""
        return [line for line in self.lines if line.at <= now]

    def _start(self, now: float) -> None:
        """Up again, on the machine that it has."""
        self.placed_at = now
        self.up_at = now + self.pace.starting_s
        self._boot()

    def _end(self, action: str, now: float) -> None:
        """Stopped or terminated. What was still to come does not come."""
        if self.runs[-1].end > now:
            self.runs[-1].end = now
            if self.up_at > now:
                self.up_at = math.inf
            self.lines = self.log(now)
            self._log(now, "system", "stop container")
        if action == "terminate":
            self.terminated_at = now
            self._log(now, "system", "remove container")

    def _boot(self) -> None:
        """The lines of a start, each at its time."""
        self._log(self.placed_at, "system", f"create container {self.spec.image}")
        self._log(self.up_at, "system", "start container")
        self._log(self.up_at, "container", f"{self.spec.image} is up {self.spec.args}".rstrip())

    def _log(self, at: float, source: str, text: str) -> None:
        self.lines.append(Line(at, source, text))


class Pods:
    """The pods of the account; those that are gone are kept for the bill."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.all: dict[str, Pod] = {}

    def create(self, pod_id: str, spec: PodSpec, now: float) -> Pod:
        pod = self.all[pod_id] = Pod(pod_id, len(self.all), spec, now, self.pace)
        return pod

    def find(self, pod_id: str, now: float) -> Pod | None:
        pod = self.all.get(pod_id)
        return None if pod is None or pod.gone(now) else pod

    def listing(self, now: float) -> list[Pod]:
        """The pods that there are, newest first."""
        there = [pod for pod in self.all.values() if not pod.gone(now) and pod.terminated_at is None]
        return sorted(there, key=lambda pod: -pod.created_at)

    def reset(self) -> None:
        self.all.clear()
