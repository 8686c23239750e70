"""What can be rented, and for how much: GPU types, CPU flavors, data centers. Prices in USD per hour. Pure.

The names and pools are RunPod's (docs.runpod.io/api-reference-v2/catalog/list-gpu-types,
docs.runpod.io/references/gpu-types); the prices are list prices of 2026, so that estimates come out in the right
order of magnitude. Not here: stock. Everything in the catalog can be had, in every data center.
"""

from __future__ import annotations

from typing import Any, NamedTuple

DATA_CENTERS = (
    "US-KS-2", "EU-RO-1", "CA-MTL-1", "EU-SE-1", "US-IL-1", "EUR-IS-1", "EU-CZ-1", "US-TX-3", "EUR-IS-2", "US-GA-2",
    "US-WA-1", "US-TX-1", "CA-MTL-3", "EU-NL-1", "US-TX-4", "US-CA-2", "US-NC-1", "OC-AU-1", "US-DE-1", "EUR-IS-3",
    "CA-MTL-2", "AP-JP-1", "EUR-NO-1", "EU-FR-1", "US-KS-3", "US-GA-1",
)  # fmt: skip
"""The first one is where the scheduler puts what may be anywhere."""
CUDA_VERSIONS = ("12.4", "12.6", "12.8")
HOST_CUDA_VERSION = "12.8"

DISK_PER_GB_H = 0.10 / 730
"""Disk of a running pod; the volume of a stopped one costs twice as much (docs.runpod.io/pods/pricing)."""
STOPPED_FACTOR = 2.0


class NotPlaced(Exception):
    """What was asked for cannot be had; the text says what, and what there is."""


class Gpu(NamedTuple):
    """A GPU type. A price of 0 in a cloud: it is not offered there."""

    id: str
    name: str
    pool: str | None
    memory_gb: int
    secure: float
    community: float
    max_secure: int
    max_community: int


class Cpu(NamedTuple):
    """A CPU flavor; prices for each vCPU."""

    id: str
    ram_gb_per_vcpu: float
    secure: float
    serverless: float
    least_vcpu: int = 2
    most_vcpu: int = 32


SERVERLESS = {
    "AMPERE_16": 0.58, "AMPERE_24": 0.69, "ADA_24": 1.10, "ADA_32_PRO": 1.58, "AMPERE_48": 1.22, "ADA_48_PRO": 1.90,
    "AMPERE_80": 2.72, "ADA_80_PRO": 4.18, "HOPPER_141": 5.58, "BLACKWELL_96": 3.99, "BLACKWELL_180": 8.64,
}  # fmt: skip
"""Serverless pool -> price of one GPU."""

_GPUS = (
    Gpu("NVIDIA GeForce RTX 4090", "RTX 4090", "ADA_24", 24, 0.69, 0.34, 8, 4),
    Gpu("NVIDIA GeForce RTX 5090", "RTX 5090", "ADA_32_PRO", 32, 0.94, 0.69, 8, 4),
    Gpu("NVIDIA GeForce RTX 3090", "RTX 3090", "AMPERE_24", 24, 0.46, 0.22, 8, 4),
    Gpu("NVIDIA GeForce RTX 3080", "RTX 3080", None, 10, 0.0, 0.17, 0, 4),
    Gpu("NVIDIA RTX A4000", "RTX A4000", "AMPERE_16", 16, 0.25, 0.17, 8, 4),
    Gpu("NVIDIA RTX A4500", "RTX A4500", "AMPERE_16", 20, 0.25, 0.19, 8, 4),
    Gpu("NVIDIA RTX A5000", "RTX A5000", "AMPERE_24", 24, 0.27, 0.16, 8, 4),
    Gpu("NVIDIA RTX A6000", "RTX A6000", "AMPERE_48", 48, 0.49, 0.33, 8, 4),
    Gpu("NVIDIA A40", "A40", "AMPERE_48", 48, 0.40, 0.0, 10, 0),
    Gpu("NVIDIA L4", "L4", "AMPERE_24", 24, 0.39, 0.0, 8, 0),
    Gpu("NVIDIA L40", "L40", "ADA_48_PRO", 48, 0.99, 0.69, 8, 4),
    Gpu("NVIDIA L40S", "L40S", "ADA_48_PRO", 48, 0.86, 0.79, 8, 4),
    Gpu("NVIDIA RTX 2000 Ada Generation", "RTX 2000 Ada", "AMPERE_16", 16, 0.24, 0.0, 8, 0),
    Gpu("NVIDIA RTX 4000 Ada Generation", "RTX 4000 Ada", "AMPERE_16", 20, 0.26, 0.20, 8, 4),
    Gpu("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", "ADA_48_PRO", 48, 0.77, 0.74, 8, 4),
    Gpu("NVIDIA A100 80GB PCIe", "A100 PCIe", "AMPERE_80", 80, 1.39, 1.19, 8, 8),
    Gpu("NVIDIA A100-SXM4-80GB", "A100 SXM", "AMPERE_80", 80, 1.49, 0.0, 8, 0),
    Gpu("NVIDIA H100 PCIe", "H100 PCIe", "ADA_80_PRO", 80, 2.39, 1.99, 8, 8),
    Gpu("NVIDIA H100 80GB HBM3", "H100 SXM", "ADA_80_PRO", 80, 2.99, 2.69, 8, 8),
    Gpu("NVIDIA H100 NVL", "H100 NVL", "ADA_80_PRO", 94, 2.79, 2.59, 8, 4),
    Gpu("NVIDIA H200", "H200 SXM", "HOPPER_141", 141, 3.99, 0.0, 8, 0),
    Gpu("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000", "BLACKWELL_96", 96, 1.89, 0.0, 8, 0),
    Gpu("NVIDIA B200", "B200", "BLACKWELL_180", 180, 5.98, 0.0, 8, 0),
    Gpu("AMD Instinct MI300X OAM", "MI300X", None, 192, 2.99, 0.0, 8, 0),
)
_CPUS = (
    Cpu("cpu3c", 2.0, 0.03, 0.04),
    Cpu("cpu3g", 4.0, 0.04, 0.05),
    Cpu("cpu3m", 8.0, 0.05, 0.07),
    Cpu("cpu5c", 2.0, 0.035, 0.045),
    Cpu("cpu5g", 4.0, 0.045, 0.055),
    Cpu("cpu5m", 8.0, 0.06, 0.08),
)
GPUS = {gpu.id: gpu for gpu in _GPUS}
CPUS = {cpu.id: cpu for cpu in _CPUS}


def gpu_price(gpu_id: str, count: int, cloud: str) -> float:
    """USD per hour of a pod.

    Raises:
        NotPlaced: no such GPU type, not in this cloud, or too many for one machine.
    """
    gpu = GPUS.get(gpu_id)
    if gpu is None:
        raise NotPlaced(f"GPU type {gpu_id!r} not found")
    price, most = (gpu.secure, gpu.max_secure) if cloud == "SECURE" else (gpu.community, gpu.max_community)
    if count > most:
        raise NotPlaced(f"no machine with {count} x {gpu_id!r} in the {cloud} cloud; at most {most}")
    return round(price * count, 4)


def cpu_price(cpu_id: str, vcpus: int) -> float:
    """USD per hour of a pod; raises `NotPlaced` for a flavor or a size that there is not."""
    return round(_cpu(cpu_id, vcpus).secure * vcpus, 4)


def cpu_memory_gb(cpu_id: str, vcpus: int) -> int:
    """Memory of a CPU pod or worker; raises `NotPlaced` as `cpu_price`."""
    return int(_cpu(cpu_id, vcpus).ram_gb_per_vcpu * vcpus)


def serverless_cpu_price(cpu_id: str, vcpus: int) -> float:
    """USD per hour of one worker; raises `NotPlaced` as `cpu_price`."""
    return round(_cpu(cpu_id, vcpus).serverless * vcpus, 4)


def _cpu(cpu_id: str, vcpus: int) -> Cpu:
    cpu = CPUS.get(cpu_id)
    if cpu is None:
        raise NotPlaced(f"CPU flavor {cpu_id!r} not found")
    if vcpus & (vcpus - 1) or not cpu.least_vcpu <= vcpus <= cpu.most_vcpu:
        raise NotPlaced(f"{vcpus} vCPUs of {cpu_id!r}: a power of two from {cpu.least_vcpu} to {cpu.most_vcpu}")
    return cpu


def serverless_gpus(pools: list[str], excluded: list[str]) -> list[Gpu]:
    """The GPU types that workers may get, in the order of the pools.

    Raises:
        NotPlaced: no such pool, or nothing is left of them.
    """
    if unknown := [pool for pool in pools if pool not in SERVERLESS]:
        raise NotPlaced(f"GPU pool {unknown[0]!r} not found")
    found = [gpu for pool in pools for gpu in _GPUS if gpu.pool == pool and gpu.id not in excluded]
    if not found:
        raise NotPlaced("no GPU type is left of the pools")
    return found


def serverless_price(gpu: Gpu, count: int) -> float:
    """USD per hour of one worker."""
    return round(SERVERLESS.get(gpu.pool or "", gpu.secure) * count, 4)


def data_center(wanted: list[str]) -> str:
    """Where something is put; raises `NotPlaced` where none of the wanted ones exists."""
    if unknown := [name for name in wanted if name not in DATA_CENTERS]:
        raise NotPlaced(f"data center {unknown[0]!r} not found")
    return wanted[0] if wanted else DATA_CENTERS[0]


def described_gpu(gpu: Gpu, *, availability: bool) -> dict[str, Any]:
    """A GPU type as RunPod shows it; with what is in stock (all of it), where that was asked for."""
    price = {"secure": gpu.secure, "community": gpu.community}
    if gpu.pool is not None:
        price["serverless"] = SERVERLESS[gpu.pool]
    found = {
        "id": gpu.id,
        "name": gpu.name,
        "pool": gpu.pool,
        "manufacturer": gpu.id.split()[0],
        "memory": gpu.memory_gb,
        "secure": gpu.secure > 0,
        "community": gpu.community > 0,
        "price": price,
        "maxCount": {"secure": gpu.max_secure, "community": gpu.max_community},
    }
    if not availability:
        return found
    versions = [{"version": version, "available": True} for version in CUDA_VERSIONS]
    return {**found, **_stock(), "cudaVersions": versions}


def _stock() -> dict[str, Any]:
    centers = [{"id": name, "name": name.replace("-", " "), "availability": "HIGH"} for name in DATA_CENTERS]
    return {"availability": "HIGH", "dataCenters": centers}
