"""Worlds for attacks: each module says which servers it needs, and every attack begins with workers that are up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from celery_runpod._devstack.stack import cli
from tests.hostile.harm import revive
from tests.servers import ROOT, World, forget_connections

ENDPOINTS = (
    "fast=synthetic:duration=0.3",
    "small=synthetic:duration=0.1,output_bytes=10",
    "five=synthetic:duration=4",
    "slow=synthetic:duration=600",
    "failing=synthetic:duration=0.1,failures=1",
)
START_S = 180.0
"""Bounds the start of a worker on a machine that is busy with other things."""
SHORT_WAITS = {
    "RUNPOD_SUBMIT_TIMEOUT_S": "3",
    "RUNPOD_POLL_TIMEOUT_S": "2",
    "RUNPOD_SYNC_WAIT_S": "1",
    "RUNPOD_UNCONFIRMED_WINDOW_S": "12",
    "RUNPOD_UNCONFIRMED_WINDOW_WEBHOOK_S": "20",
    "RUNPOD_CHECK_TOTAL_S": "6",
    "RUNPOD_CHECK_LEASE_S": "8",
    "RUNPOD_COUNTDOWN_CAP_S": "4",
    "RUNPOD_VISIBILITY_TIMEOUT_S": "12",
    "RUNPOD_CLAIM_LEASE_S": "25",
}


@contextmanager
def servers_of(
    folder: Path,
    *,
    endpoints: Sequence[str] = ENDPOINTS,
    env: Mapping[str, str] | None = None,
    simulator: Sequence[str] = (),
    prepare: Callable[[World], None] = lambda world: None,
) -> Iterator[World]:
    """Redis and the simulator, and what `prepare` starts; all of it is ended, also where something fails."""
    world = World(folder, endpoints=endpoints, simulator=simulator, env={**SHORT_WAITS, **(env or {})})
    try:
        prepare(world)
        world.app()
        yield world
    finally:
        world.stack.stop()
        forget_connections()


def start_workers(world: World, pool: str = "prefork", *, application: bool = True) -> None:
    """One RunPod worker, and the user's own with the tasks of `tests/hostile/application.py`."""
    command = [*cli("worker"), "-n", "runpod0@%h", "-c", "4", "--pool", pool, "--loglevel", "INFO"]
    commands = {"runpod0": command}
    if application:
        celery = [sys.executable, "-m", "celery", "-A", "tests.hostile.application", "worker"]
        commands["application"] = [*celery, "-n", "application@%h", "-c", "2", "--loglevel", "INFO"]
    for name, words in commands.items():
        world.stack.start(name, words, cwd=ROOT, ready=lambda server: " ready." in server.text(), within_s=START_S)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """For modules that need nothing special."""
    with servers_of(tmp_path_factory.mktemp("hostile"), prepare=start_workers) as world:
        yield world


@pytest.fixture
def world(servers: World) -> Iterator[World]:
    """One attack's."""
    servers.app()
    revive(servers, start_workers)
    yield servers
    servers.no_faults()
