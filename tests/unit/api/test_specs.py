"""What may be asked of a pod or an endpoint: refusals name the thing, what was given, and what is allowed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_runpod.api import BillingPeriod, EndpointChanges, EndpointSpec, PodChanges, PodSpec
from celery_runpod.api._checks import FIELDS, made
from celery_runpod.errors import InvalidOption

GPU: dict[str, Any] = {"image": "a", "gpu": "NVIDIA L4"}
CPU: dict[str, Any] = {"image": "a", "cpu": "cpu3c"}
POOL: dict[str, Any] = {"image": "a", "gpu_pools": ["ADA_24"]}


@pytest.mark.parametrize(
    ("cls", "given", "option", "allowed"),
    [
        (PodSpec, {"image": "a", "gpu": "x", "cpu": "y"}, "gpu, cpu", "exactly one"),
        (PodSpec, {"image": "a"}, "gpu, cpu", "exactly one"),
        (PodSpec, {"gpu": "x"}, "image", "an image, or a template_id"),
        (PodSpec, {"image": "", "gpu": "x"}, "image", "a text of 1 to"),
        (PodSpec, {"image": " ", "gpu": "x"}, "image", "a text of 1 to"),
        (PodSpec, GPU | {"name": ""}, "name", "a text of 1 to 191"),
        (PodSpec, GPU | {"name": "x" * 192}, "name", "a text of 1 to 191"),
        (PodSpec, GPU | {"gpu_count": 0}, "gpu_count", "a whole number, 1 or more"),
        (PodSpec, GPU | {"gpu_count": 1.5}, "gpu_count", "a whole number"),
        (PodSpec, GPU | {"gpu_count": True}, "gpu_count", "a whole number"),
        (PodSpec, GPU | {"gpu_count": "2"}, "gpu_count", "a whole number"),
        (PodSpec, GPU | {"vcpus": 4}, "vcpus", "CPU pods only"),
        (PodSpec, CPU | {"vcpus": 3}, "vcpus", "a power of two"),
        (PodSpec, CPU | {"vcpus": 1}, "vcpus", "a power of two"),
        (PodSpec, CPU | {"gpu_count": 1}, "gpu_count", "GPU pods only"),
        (PodSpec, CPU | {"volume_gb": 20}, "volume_gb", "GPU pods only"),
        (PodSpec, GPU | {"volume_gb": 9}, "volume_gb", "10 or more"),
        (PodSpec, GPU | {"volume_gb": 20, "network_volume": "a"}, "volume_gb, network_volume", "one"),
        (PodSpec, GPU | {"cuda_versions": ["12.8"], "min_cuda": "12.4"}, "cuda_versions, min_cuda", "one of them"),
        (PodSpec, GPU | {"disk_gb": 0}, "disk_gb", "1 or more"),
        (PodSpec, GPU | {"cloud": "secure"}, "cloud", "SECURE, COMMUNITY"),
        (PodSpec, GPU | {"ports": "22/tcp"}, "ports", "a list of texts"),
        (PodSpec, GPU | {"ports": [22]}, "ports", "a list of texts"),
        (PodSpec, GPU | {"env": ["A=b"]}, "env", "a dict of names to texts"),
        (PodSpec, GPU | {"env": {"A": 1}}, "env['A']", "a dict of names to texts"),
        (PodSpec, GPU | {"start_ssh": "yes"}, "start_ssh", "True or False"),
        (PodSpec, GPU | {"gpus": 2}, "gpus", "args, cloud, cpu"),
        (PodChanges, {}, "PodChanges", "at least one of name, image"),
        (PodChanges, {"gpu": "x"}, "gpu", "one of args, disk_gb"),
        (PodChanges, {"disk_gb": -1}, "disk_gb", "1 or more"),
        (EndpointSpec, POOL | {"cpu": "cpu3c"}, "gpu_pools or gpu_types, cpu", "exactly one"),
        (EndpointSpec, {"image": "a"}, "gpu_pools or gpu_types, cpu", "exactly one"),
        (EndpointSpec, {"gpu_pools": ["ADA_24"]}, "image", "template_id"),
        (EndpointSpec, {"image": "a", "gpu_pools": []}, "gpu_pools", "a list of texts, 1 or more"),
        (EndpointSpec, POOL | {"workers_min": 2, "workers_max": 1}, "workers_min", "at most workers_max (1)"),
        (EndpointSpec, POOL | {"workers_min": -1}, "workers_min", "0 or more"),
        (EndpointSpec, POOL | {"idle_timeout": 3601}, "idle_timeout", "1 to 3600"),
        (EndpointSpec, POOL | {"idle_timeout": 1.5}, "idle_timeout", "whole seconds"),
        (EndpointSpec, POOL | {"scaler": "MAGIC"}, "scaler", "QUEUE_DELAY, REQUEST_COUNT"),
        (EndpointSpec, POOL | {"scaler_value": 0.1}, "scaler_value", "0.5"),
        (EndpointSpec, POOL | {"scaler_value": float("nan")}, "scaler_value", "a number"),
        (EndpointSpec, POOL | {"scaler": "REQUEST_COUNT", "scaler_value": 1.5}, "scaler_value", "a whole number"),
        (EndpointSpec, POOL | {"type": "LOAD_BALANCER"}, "scaler", "REQUEST_COUNT"),
        (EndpointSpec, POOL | {"vcpus": 2}, "vcpus", "CPU endpoints only"),
        (EndpointSpec, CPU | {"gpu_count": 2}, "gpu_count", "GPU endpoints only"),
        (EndpointChanges, {}, "EndpointChanges", "at least one of"),
        (EndpointChanges, {"scaler_value": 4}, "scaler, scaler_value", "both, or neither"),
        (EndpointChanges, {"excluded_gpu_types": ["a"]}, "excluded_gpu_types", "together with gpu_pools"),
        (EndpointChanges, {"workers_min": 3, "workers_max": 2}, "workers_min", "at most workers_max (2)"),
    ],
)
def test_what_cannot_be_is_refused(cls: type, given: dict[str, Any], option: str, allowed: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        made(cls, given)
    assert caught.value.option == option
    assert allowed in caught.value.allowed
    json.dumps(caught.value.args)


@pytest.mark.parametrize("given", [None, "pod", [GPU]])
def test_what_is_no_spec(given: Any) -> None:
    with pytest.raises(InvalidOption, match="a PodSpec, or a dict of its fields"):
        made(PodSpec, given)


def test_a_spec_is_itself() -> None:
    spec = PodSpec(**GPU)
    assert made(PodSpec, spec) is spec
    assert made(PodSpec, dict(GPU)) == spec


def test_no_secret_is_told() -> None:
    spec = PodSpec(**GPU, env={"TOKEN": "hush"})
    with pytest.raises(InvalidOption) as caught:
        PodSpec(**GPU, env={"TOKEN": ["hush"]})
    assert "hush" not in repr(spec) + str(caught.value)


def test_every_field_has_its_line_in_the_table() -> None:
    named = {name for cls in (PodSpec, PodChanges, EndpointSpec, EndpointChanges) for name in cls.__dataclass_fields__}
    assert named == set(FIELDS)


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"bucket": "minute"}, "bucket"),
        ({"start": datetime(2026, 6, 1)}, "start"),  # noqa: DTZ001
        ({"end": "2026-06-01"}, "end"),
        ({"start": datetime(2026, 6, 2, tzinfo=UTC), "end": datetime(2026, 6, 1, tzinfo=UTC)}, "start"),
        ({"last": 0}, "last"),
        ({"last": True}, "last"),
        ({"last": 1, "end": datetime(2026, 6, 1, tzinfo=UTC)}, "last, start, end"),
    ],
)
def test_a_period_that_cannot_be(given: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        BillingPeriod(**given)
    assert caught.value.option == option
