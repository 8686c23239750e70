"""EndpointSpec and EndpointChanges: how to create or change a Serverless endpoint, in one vocabulary for both versions
of RunPod's REST API.

The versions differ in what an endpoint is made of: v2 takes a container and pools of GPUs, v1 a template (which holds
the container) and types of GPUs. A field that the version in use does not know is refused by name.

Not here: the body that a version wants (``_restv1.py``, ``_restv2.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from celery_runpod.api._checks import check, refuse_unless
from celery_runpod.api._podspec import ONE_COMPUTE


@dataclass(frozen=True, kw_only=True)
class _Fields:
    """What both say of an endpoint."""

    name: str | None = None
    image: str | None = None
    template_id: str | None = None
    gpu_pools: Sequence[str] | None = None
    gpu_types: Sequence[str] | None = None
    excluded_gpu_types: Sequence[str] | None = None
    gpu_count: int | None = None
    workers_min: int | None = None
    workers_max: int | None = None
    idle_timeout: float | timedelta | None = None
    scaler: str | None = None
    scaler_value: float | None = None
    execution_timeout: float | timedelta | None = None
    data_centers: Sequence[str] | None = None
    network_volumes: Sequence[str] | None = None
    flashboot: bool | None = None
    args: str | None = None
    disk_gb: int | None = None
    env: Mapping[str, str] | None = field(default=None, repr=False)
    ports: Sequence[str] | None = None
    registry: str | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointSpec(_Fields):
    """A Serverless endpoint to be created (docs.runpod.io/api-reference-v2). None leaves a choice to RunPod.

    >>> EndpointSpec(image="me/sdxl:3", gpu_pools=["ADA_24"], workers_min=2, workers_max=1)
    Traceback (most recent call last):
    celery_runpod.errors.InvalidOption: option 'workers_min': 2 given; allowed: at most workers_max (1)

    Args:
        image: the workers' image (REST v2 only, as all of the container: `args`, `disk_gb`, `env`, `ports`,
            `registry`); needed unless a template has one.
        template_id: a Serverless template; REST v1 makes endpoints from templates alone.
        gpu_pools: pools of GPUs, "ADA_24" (REST v2; `list_gpus()` has each type's pool).
        gpu_types: instead of pools, types of GPUs, "NVIDIA L4" (REST v1 only).
        gpu_count: how many GPUs each worker has.
        cpu: instead of GPUs, a CPU flavor; with `vcpus`, a power of two.
        excluded_gpu_types: types that are left out of the pools (REST v2 only).
        name: 1 to 191 characters, and no other endpoint's; one is made if it is None.
        workers_min, workers_max: 0 or more; how many workers there are without, and with, many jobs.
        idle_timeout: whole seconds or a `timedelta`, 1 s to an hour, until an idle worker is stopped.
        scaler: "QUEUE_DELAY" or "REQUEST_COUNT".
        scaler_value: for QUEUE_DELAY the seconds that a job may wait before a further worker comes (REST v1: whole
            ones); for REQUEST_COUNT the jobs for each worker, a whole number.
        execution_timeout: seconds or a `timedelta`, for a job's work.
        type: "QUEUE", or "LOAD_BALANCER" (REST v2 only).
        data_centers: where workers may be.
        network_volumes: ids of network volumes.
        flashboot: faster cold starts.

    Raises:
        InvalidOption: a value that cannot be, or one that another rules out. Nothing was sent.
    """

    cpu: str | None = None
    vcpus: int | None = None
    scaler: str = "QUEUE_DELAY"
    scaler_value: float = 4
    type: str = "QUEUE"

    def __post_init__(self) -> None:
        check(self)
        gpu = self.gpu_pools is not None or self.gpu_types is not None
        refuse_unless(not (gpu and self.cpu), "gpu_pools or gpu_types, cpu", "both", ONE_COMPUTE)
        refuse_unless(gpu or self.cpu is not None, "gpu_pools or gpu_types, cpu", "neither", ONE_COMPUTE)
        refuse_unless(bool(self.image or self.template_id), "image", "none", "an image, or a template_id")
        for name in ("gpu_count", "excluded_gpu_types"):
            refuse_unless(gpu or getattr(self, name) is None, name, "given", "GPU endpoints only")
        refuse_unless(not gpu or self.vcpus is None, "vcpus", "given", "CPU endpoints only")
        _check_scaling(self)
        counted = self.type == "QUEUE" or self.scaler == "REQUEST_COUNT"
        refuse_unless(counted, "scaler", self.scaler, "REQUEST_COUNT, for an endpoint of type LOAD_BALANCER")


@dataclass(frozen=True, kw_only=True)
class EndpointChanges(_Fields):
    """What is to be changed of an endpoint; None leaves it as it is. Workers take up a new container one by one, as
    they are replaced. A scaler and its value go together.

    The fields are as for `EndpointSpec`.

    Raises:
        InvalidOption: a value that cannot be, or nothing to change.
    """

    def __post_init__(self) -> None:
        check(self)
        names = [one.name for one in fields(self)]
        told = any(getattr(self, name) is not None for name in names)
        refuse_unless(told, "EndpointChanges", "nothing", f"at least one of {', '.join(names)}")
        paired = (self.scaler is None) == (self.scaler_value is None)
        refuse_unless(paired, "scaler, scaler_value", "one of them", "both, or neither")
        paired = self.excluded_gpu_types is None or self.gpu_pools is not None
        refuse_unless(paired, "excluded_gpu_types", "given", "together with gpu_pools")
        _check_scaling(self)


def _check_scaling(spec: Any) -> None:
    if spec.workers_min is not None and spec.workers_max is not None:
        fits = spec.workers_min <= spec.workers_max
        refuse_unless(fits, "workers_min", spec.workers_min, f"at most workers_max ({spec.workers_max})")
    if spec.scaler == "REQUEST_COUNT":
        value = spec.scaler_value
        refuse_unless(value >= 1 and value == int(value), "scaler_value", value, "a whole number, 1 or more")
