"""PodSpec and PodChanges: how to create or change a pod, in one vocabulary for both versions of RunPod's REST API.

Not here: the body that a version wants (``_restv1.py``, ``_restv2.py``), a pod as RunPod answers it (``_pods.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from celery_runpod.api._checks import check, refuse_unless

ONE_COMPUTE = "exactly one: GPUs or CPUs"


@dataclass(frozen=True, kw_only=True)
class PodSpec:
    """A pod to be created (docs.runpod.io/api-reference-v2). None leaves a choice to RunPod.

    >>> PodSpec(image="runpod/pytorch:2.8", gpu="NVIDIA GeForce RTX 4090").gpu
    'NVIDIA GeForce RTX 4090'
    >>> PodSpec(image="runpod/pytorch:2.8", gpu="NVIDIA L4", cpu="cpu3c")
    Traceback (most recent call last):
    celery_runpod.errors.InvalidOption: option 'gpu, cpu': 'both' given; allowed: exactly one: GPUs or CPUs

    Args:
        image: the container's image; needed unless a template has one.
        gpu: a type's id, as `list_gpus()` has it; with `gpu_count` (1).
        cpu: instead of a GPU, a CPU flavor (`cpu3c`); with `vcpus` (2), a power of two.
        name: 1 to 191 characters, and no other pod's; one is made if it is None.
        template_id: a template for what is not said here.
        cloud: "SECURE" or "COMMUNITY".
        disk_gb: the container's disk, in GB; its content is lost when the pod stops.
        volume_gb: a volume on the pod's machine, in GB, 10 or more; GPU pods only.
        network_volume: instead of `volume_gb`, the id of a network volume.
        volume_path: the path in the container at which the volume is mounted.
        ports: what is exposed: "8888/http", "22/tcp".
        env: environment variables. Not in the repr: they may be secrets.
        args: the command's arguments, as one text.
        registry: the id of the credentials for a private image.
        data_centers: where the pod may be: "US-KS-2".
        cuda_versions: acceptable versions, "12.8".
        min_cuda: instead of these, the lowest acceptable version (REST v2 only).
        global_networking: a private address, reachable across data centers.
        start_ssh, start_jupyter: have them set up (REST v2 only).
        interruptible: cheaper, and may be stopped at any time (REST v1 only).

    Raises:
        InvalidOption: a value that cannot be, or one that another rules out. Nothing was sent.
    """

    image: str | None = None
    gpu: str | None = None
    gpu_count: int | None = None
    cpu: str | None = None
    vcpus: int | None = None
    name: str | None = None
    template_id: str | None = None
    cloud: str | None = None
    disk_gb: int | None = None
    volume_gb: int | None = None
    volume_path: str = "/workspace"
    network_volume: str | None = None
    ports: Sequence[str] | None = None
    env: Mapping[str, str] | None = field(default=None, repr=False)
    args: str | None = None
    registry: str | None = None
    data_centers: Sequence[str] | None = None
    cuda_versions: Sequence[str] | None = None
    min_cuda: str | None = None
    global_networking: bool | None = None
    start_ssh: bool | None = None
    start_jupyter: bool | None = None
    interruptible: bool | None = None

    def __post_init__(self) -> None:
        check(self)
        refuse_unless(self.gpu is None or self.cpu is None, "gpu, cpu", "both", ONE_COMPUTE)
        refuse_unless(self.gpu is not None or self.cpu is not None, "gpu, cpu", "neither", ONE_COMPUTE)
        refuse_unless(bool(self.image or self.template_id), "image", "none", "an image, or a template_id")
        refuse_unless(self.volume_gb is None or not self.network_volume, "volume_gb, network_volume", "both", "one")
        refuse_unless(not (self.cuda_versions and self.min_cuda), "cuda_versions, min_cuda", "both", "one of them")
        for name in ("gpu_count", "volume_gb", "cuda_versions", "min_cuda"):
            refuse_unless(self.cpu is None or getattr(self, name) is None, name, "given", "GPU pods only")
        refuse_unless(self.gpu is None or self.vcpus is None, "vcpus", "given", "CPU pods only")


@dataclass(frozen=True, kw_only=True)
class PodChanges:
    """What is to be changed of a pod; None leaves it as it is, an empty `ports` or `env` empties it. RunPod restarts the
    container for what it cannot change in place: all but `name` and `locked`.

    Args:
        locked: a locked pod cannot be stopped or reset.

    The rest is as for `PodSpec`.

    Raises:
        InvalidOption: a value that cannot be, or nothing to change.
    """

    name: str | None = None
    image: str | None = None
    args: str | None = None
    disk_gb: int | None = None
    ports: Sequence[str] | None = None
    env: Mapping[str, str] | None = field(default=None, repr=False)
    registry: str | None = None
    global_networking: bool | None = None
    locked: bool | None = None

    def __post_init__(self) -> None:
        check(self)
        names = [one.name for one in fields(self)]
        told = any(getattr(self, name) is not None for name in names)
        refuse_unless(told, "PodChanges", "nothing", f"at least one of {', '.join(names)}")
