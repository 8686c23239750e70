"""A pod as RunPod answers it, and its log lines; the same for both versions of the REST API.

Not here: reading it out of a version's JSON (``_restv1.py``, ``_restv2.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from celery_runpod.api._depth import loads
from celery_runpod.api._fields import moment, text

POD_STATUSES = ("PROVISIONING", "STARTING", "RUNNING", "EXITED", "ERROR", "TERMINATED")
"""What REST v2 documents (docs.runpod.io/api-reference-v2); v1 knows RUNNING, EXITED and TERMINATED."""

UNKNOWN = "UNKNOWN"
"""The status where RunPod answers none."""


@dataclass(frozen=True)
class Pod:
    """A pod. What RunPod does not answer is None, or empty.

    Args:
        status: RunPod's word, one of `POD_STATUSES`; another one is kept. REST v1 answers with the desired status, so
            a pod that still starts is RUNNING there.
        gpu, gpu_count: a type's id and how many; or
        cpu, vcpus, memory_gb: a CPU flavor, its virtual CPUs, and GB of memory.
        usd_per_hour: what it costs now.
        public_ports: ports in the container to ports at `public_ip`.
        ssh: a command line, where RunPod gives one.
        env: not in the repr: it may hold secrets.
        actions: what may be done with it in its status (REST v2).
        uptime_s: seconds since the container started.
    """

    id: str
    name: str = ""
    status: str = UNKNOWN
    image: str | None = None
    gpu: str | None = None
    gpu_count: int = 0
    cpu: str | None = None
    vcpus: int | None = None
    memory_gb: float | None = None
    cloud: str | None = None
    data_center: str | None = None
    usd_per_hour: float | None = None
    template_id: str | None = None
    disk_gb: int | None = None
    ports: tuple[str, ...] = ()
    public_ip: str | None = None
    public_ports: Mapping[int, int] = field(default_factory=dict)
    ssh: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    locked: bool = False
    actions: tuple[str, ...] = ()
    uptime_s: float | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None


@dataclass(frozen=True)
class LogLine:
    """A line of a pod's log. `source` is "container" (what the container writes) or "system" (what its host does)."""

    text: str
    source: str | None = None
    at: datetime | None = None


def log_lines(lines: Iterable[str]) -> Iterator[LogLine]:
    """The log lines in a stream of server-sent events.

    >>> list(log_lines(['data: {"source": "system", "line": "image pulled"}', ""]))
    [LogLine(text='image pulled', source='system', at=None)]
    """
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            yield _log_line("\n".join(data))
            data = []
    if data:
        yield _log_line("\n".join(data))


def _log_line(data: str) -> LogLine:
    try:
        event = loads(data)
    except ValueError:
        event = None
    if not isinstance(event, Mapping) or not isinstance(event.get("line"), str):
        return LogLine(data)
    return LogLine(event["line"], text(event.get("source")), moment(event.get("ts")))
