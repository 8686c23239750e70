"""Worlds for attacks: each module says which servers it needs, and every attack begins with workers that are up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hostile.harm import revive
from tests.servers import World

ENDPOINTS = (
    "fast=synthetic:duration=0.3",
    "small=synthetic:duration=0.1,output_bytes=10",
    "five=synthetic:duration=4",
    "slow=synthetic:duration=600",
    "failing=synthetic:duration=0.1,failures=1",
)
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
    with World(folder, endpoints=endpoints, simulator=simulator, env={**SHORT_WAITS, **(env or {})}) as world:
        prepare(world)
        yield world


def start_workers(world: World, pool: str = "prefork", *, application: bool = True) -> None:
    """One RunPod worker, and the user's own with the tasks of `tests/hostile/application.py`."""
    world.start(application="tests.hostile.application" if application else None, concurrency=4, pool=pool)


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
