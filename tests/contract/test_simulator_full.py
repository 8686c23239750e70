"""The simulator beside RunPod's full descriptions: its paths, its reserved names, its GPUs."""

from __future__ import annotations

from celery_runpod._simulator.endpoint_specs import RESERVED
from celery_runpod._simulator.faults import MANAGEMENT
from celery_runpod._simulator.management import catalog

from .descriptions import description, operations


def test_the_reserved_names_are_the_first_words_of_its_paths() -> None:
    assert {operation.path.split("/")[2] for operation in operations("v2")} == RESERVED


def test_what_is_served_is_described() -> None:
    """Also: the description holds no serverless job operation, to which the job routes could be held."""
    paths = {operation.path for operation in operations("v2")}
    assert not [path for path in paths if path.endswith(("/run", "/runsync", "/purge-queue"))]
    assert {name.split(".")[0] for name in MANAGEMENT} == {"pods", "serverless", "catalog", "billing"}


def test_every_gpu_of_the_simulator_is_one_of_runpods() -> None:
    known = description("v1")["components"]["schemas"]["PodCreateInput"]["properties"]["gpuTypeIds"]["items"]["enum"]
    assert set(catalog.GPUS) <= set(known), "version 1 names every GPU type that there is"
