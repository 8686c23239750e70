"""A Serverless endpoint and its workers as RunPod answers them; the same for both versions of the REST API.

An endpoint is here a thing that is made, scaled and deleted. Sending it jobs: ``_serverless.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from celery_runpod.api._pods import UNKNOWN


@dataclass(frozen=True)
class ServerlessEndpoint:
    """A Serverless endpoint. What RunPod does not answer is None, or empty.

    Args:
        gpu_pools: the pools of GPUs that its workers may have (REST v2); or
        gpu_types: the types of GPUs (REST v1).
        cpu: the CPU flavors, of a CPU endpoint.
        idle_timeout_s: seconds until an idle worker is stopped.
        scaler, scaler_value: "QUEUE_DELAY" and seconds, or "REQUEST_COUNT" and jobs for each worker.
        execution_timeout_s: seconds for a job's work.
        env: not in the repr: it may hold secrets.
    """

    id: str
    name: str = ""
    type: str | None = None
    image: str | None = None
    template_id: str | None = None
    gpu_pools: tuple[str, ...] = ()
    gpu_types: tuple[str, ...] = ()
    gpu_count: int = 0
    cpu: tuple[str, ...] = ()
    workers_min: int = 0
    workers_max: int = 0
    idle_timeout_s: float | None = None
    scaler: str | None = None
    scaler_value: float | None = None
    execution_timeout_s: float | None = None
    flashboot: bool | None = None
    data_centers: tuple[str, ...] = ()
    network_volumes: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    created_at: datetime | None = None


@dataclass(frozen=True)
class ServerlessWorker:
    """A worker of an endpoint.

    Args:
        status: REST v2: RUNNING, IDLE, INITIALIZING, THROTTLED or UNHEALTHY; v1: the status of its pod, as wanted.
            Another word is kept.
        stale: it runs an older version of the endpoint.
        uptime_s: seconds since it started.
    """

    id: str
    status: str = UNKNOWN
    gpu: str | None = None
    gpu_count: int = 0
    image: str | None = None
    data_center: str | None = None
    stale: bool = False
    uptime_s: float | None = None
    started_at: datetime | None = None
