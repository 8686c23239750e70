"""docs/simulator.md names what the simulator takes: options, kinds of fault, operations, routes, variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celery_runpod._cli.simulator_command import simulator
from celery_runpod._simulator.endpoint_specs import HANDLER_OPTIONS, SHAPE, SYNTHETIC_OPTIONS
from celery_runpod._simulator.faults import FIELDS, KINDS, MANAGEMENT, OPERATIONS
from celery_runpod._simulator.worker_processes import environment

TEXT = (Path(__file__).resolve().parents[3] / "docs/simulator.md").read_text()
OPTIONS = [option for parameter in simulator.params for option in parameter.opts]
OPTIONAL = {"RUNPOD_LOG_LEVEL", "RUNPOD_POD_HOSTNAME"}
VARIABLES = {name for name in environment("", "", "", "") if name.startswith("RUNPOD_")} - OPTIONAL - os.environ.keys()


@pytest.mark.parametrize(
    "name",
    [
        *OPTIONS,
        *(f"`{name}`" for name in sorted(KINDS | (OPERATIONS - MANAGEMENT) | FIELDS.keys() - {"kind"})),
        *(f"{name}=" for name in sorted(SYNTHETIC_OPTIONS.keys() | HANDLER_OPTIONS.keys())),
        *(f"/_simulator/{name}" for name in ("faults", "faults/{id}", "jobs", "requests", "reset")),
        *sorted(VARIABLES),
        SHAPE.partition("synthetic[")[2].removesuffix("]"),
    ],
)
def test_it_is_named(name: str) -> None:
    assert name in TEXT
