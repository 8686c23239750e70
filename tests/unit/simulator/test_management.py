"""The smaller rules of the management API: shapes of bodies, quotas, prices, how many workers, reserved names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_runpod._simulator import endpoint_specs
from celery_runpod._simulator.management import catalog, pod_routes, serverless_routes
from celery_runpod._simulator.management.body_shapes import problems
from celery_runpod._simulator.management.catalog import NotPlaced
from celery_runpod._simulator.management.quotas import WINDOWS, Quotas
from celery_runpod._simulator.worker_fleet import MOST_PROCESSES, Scaling
from celery_runpod.errors import ConfigurationError

POD = {"name": "a", "image": "b", "gpu": {"id": "NVIDIA L4"}}
MOUNT = {"volumeId": "v", "path": "/data"}
BAD_CUDA = r"$.gpu.minCudaVersion: does not match pattern '^\\d+\\.\\d+$'"
ENDPOINT = {"name": "a", "image": "b", "type": "QUEUE", "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (POD, []),
        ({**POD, "registry": None, "env": {"A": "b"}}, []),
        ([], ["$: got array, want object"]),
        ({"image": "b"}, ["$: missing property 'name'"]),
        ({**POD, "bogus": 1}, ["$: additional properties 'bogus' not allowed"]),
        ({**POD, "gpu": {"id": "x", "count": 0}}, ["$.gpu.count: must be >= 1 but found 0"]),
        ({**POD, "disk": True}, ["$.disk: got boolean, want integer"]),
        ({**POD, "env": {"A": 1}}, ["$.env.A: got integer, want string"]),
        ({**POD, "ports": ["80/http", 81]}, ["$.ports[1]: got integer, want string"]),
        ({**POD, "cloud": "MOON"}, ["$.cloud: value must be one of 'SECURE', 'COMMUNITY'"]),
        ({**POD, "name": ""}, ["$.name: length must be >= 1"]),
        ({**POD, "mounts": {"network": [MOUNT, MOUNT]}}, ["$.mounts.network: maxItems: got 2, want 1"]),
        ({**POD, "gpu": {"id": "x", "minCudaVersion": "12"}}, [BAD_CUDA]),
        ({**POD, "gpu": {"id": "x", "minCudaVersion": "12.4\n"}}, ["$.gpu.minCudaVersion: does not satisfy not"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_body_of_a_pod(body: Any, found: list[str]) -> None:
    assert problems(body, pod_routes.CREATE) == found


def test_a_problem_does_not_repeat_a_text_because_bodies_carry_secrets() -> None:
    for body in ({**POD, "env": "hunter2"}, {**POD, "cloud": "hunter2"}, {**POD, "env": {"A": ["hunter2"]}}):
        found = problems(body, pod_routes.CREATE)
        assert found and "hunter2" not in "".join(found)


def test_the_pools_of_an_endpoint_are_a_list_with_something_in_it() -> None:
    found = problems({**ENDPOINT, "gpu": {"pools": []}}, serverless_routes.CREATE)
    assert found == ["$.gpu.pools: minItems: got 0, want 1"]


def test_a_quota_is_used_up_and_begins_anew() -> None:
    quotas, most = Quotas(), WINDOWS["minute"][0]
    assert [quotas.take(120.0) for _ in range(most)] == [None] * most
    assert quotas.take(179.0) == "minute"
    assert quotas.left(179.0).startswith('"minute";r=0;t=1, "hour";r=')
    assert quotas.take(180.0) is None


def test_every_gpu_has_a_price_where_it_is_offered() -> None:
    for gpu in catalog.GPUS.values():
        assert (gpu.secure > 0) is (gpu.max_secure > 0) and (gpu.community > 0) is (gpu.max_community > 0), gpu
        assert gpu.pool is None or gpu.pool in catalog.SERVERLESS


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: catalog.gpu_price("NVIDIA GTX 9", 1, "SECURE"), "GPU type 'NVIDIA GTX 9' not found"),
        (lambda: catalog.gpu_price("NVIDIA L4", 9, "SECURE"), "no machine with 9 x 'NVIDIA L4'"),
        (lambda: catalog.gpu_price("NVIDIA L4", 1, "COMMUNITY"), "COMMUNITY cloud; at most 0"),
        (lambda: catalog.cpu_price("cpu9x", 2), "CPU flavor 'cpu9x' not found"),
        (lambda: catalog.cpu_price("cpu3c", 6), "a power of two from 2 to 32"),
        (lambda: catalog.serverless_gpus(["MOON"], []), "GPU pool 'MOON' not found"),
        (lambda: catalog.serverless_gpus(["ADA_24"], ["NVIDIA GeForce RTX 4090"]), "no GPU type is left"),
        (lambda: catalog.data_center(["MARS-1"]), "data center 'MARS-1' not found"),
    ],
)
def test_what_cannot_be_had_is_named(ask: Any, words: str) -> None:
    with pytest.raises(NotPlaced, match=re.escape(words)):
        ask()


def test_prices_grow_with_the_count() -> None:
    assert catalog.gpu_price("NVIDIA L4", 2, "SECURE") == 2 * catalog.GPUS["NVIDIA L4"].secure
    assert catalog.cpu_price("cpu3c", 8) == 0.24


def test_workers_are_started_for_jobs_and_for_the_minimum_within_the_limit() -> None:
    scaling = Scaling(least=0, most=3, idle_s=5.0)
    assert [scaling.to_start(waiting, 0, 0, 0) for waiting in (0, 2, 9)] == [0, 2, 3]
    assert scaling.to_start(waiting=2, coming=1, usable=1, own=1) == 1
    scaling.change(2, 3, 5.0)
    assert (scaling.to_start(0, 0, 0, 0), scaling.lacks(1), scaling.lacks(2)) == (2, True, False)
    scaling.change(0, None, 5.0)
    assert scaling.most == MOST_PROCESSES


def test_workers_end_when_idle_or_too_many() -> None:
    scaling = Scaling(least=1, most=3, idle_s=5.0)
    assert [scaling.ends(kept, 6.0) for kept in (1, 2)] == [False, True]
    assert [scaling.ends(kept, 1.0) for kept in (3, 4)] == [False, True]
    scaling.change(0, 0, 5.0)
    assert scaling.ends(1, 0.0) and scaling.spare(busy=0) == 0


@pytest.mark.parametrize("name", sorted(endpoint_specs.RESERVED))
def test_a_path_of_the_management_api_is_no_name_of_an_endpoint(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"endpoint '{name}': the name is a path of RunPod's management API"):
        endpoint_specs.parse([f"{name}=synthetic"])
