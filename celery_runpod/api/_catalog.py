"""The types of GPUs that RunPod rents out, with prices (REST v2: docs.runpod.io/api-reference-v2, catalog)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_runpod.api._fields import count, identified, mapping, number, text, whole


@dataclass(frozen=True)
class GpuType:
    """A type of GPU. Prices are US dollars for one GPU and an hour, list prices; None where RunPod has none.

    Args:
        id: what a pod is created with (`PodSpec.gpu`).
        pool: what an endpoint is created with (`EndpointSpec.gpu_pools`); None if it is in no pool.
        secure_usd_per_hour, community_usd_per_hour: pods in the two clouds.
        serverless_usd_per_hour: Serverless workers.
        secure, community: whether it is offered in that cloud.
        secure_max_count, community_max_count: the most in one pod of that cloud.
        availability: "NONE", "LOW", "MEDIUM", "HIGH", where it was asked for.
    """

    id: str
    name: str = ""
    memory_gb: int | None = None
    pool: str | None = None
    manufacturer: str | None = None
    secure: bool = False
    community: bool = False
    secure_usd_per_hour: float | None = None
    community_usd_per_hour: float | None = None
    serverless_usd_per_hour: float | None = None
    secure_max_count: int = 0
    community_max_count: int = 0
    availability: str | None = None


def parse_gpu(data: Mapping[str, Any]) -> GpuType:
    """A type of GPU from its JSON.

    >>> parse_gpu({"id": "NVIDIA L4", "price": {"secure": 0.43}}).secure_usd_per_hour
    0.43
    """
    told, found = identified(data, "GPU type")
    price, most = mapping(told.get("price")), mapping(told.get("maxCount"))
    return GpuType(
        id=found,
        name=text(told.get("name")) or "",
        memory_gb=whole(told.get("memory")),
        pool=text(told.get("pool")),
        manufacturer=text(told.get("manufacturer")),
        secure=told.get("secure") is True,
        community=told.get("community") is True,
        secure_usd_per_hour=number(price.get("secure")),
        community_usd_per_hour=number(price.get("community")),
        serverless_usd_per_hour=number(price.get("serverless")),
        secure_max_count=count(most.get("secure")),
        community_max_count=count(most.get("community")),
        availability=text(told.get("availability")),
    )
