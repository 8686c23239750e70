"""Worlds whose waits are short, so that what a kill costs can be waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import World

SHORT_WAITS = {
    "RUNPOD_SUBMIT_TIMEOUT_S": "3",
    "RUNPOD_POLL_TIMEOUT_S": "2",
    "RUNPOD_SYNC_WAIT_S": "1",
    "RUNPOD_UNCONFIRMED_WINDOW_S": "12",
    "RUNPOD_CHECK_TOTAL_S": "6",
    "RUNPOD_CHECK_LEASE_S": "8",
    "RUNPOD_COUNTDOWN_CAP_S": "4",
    "RUNPOD_VISIBILITY_TIMEOUT_S": "12",
    # Longer than Celery's own claim on a chord, as in real life.
    "RUNPOD_CLAIM_LEASE_S": "25",
}


@pytest.fixture(scope="module")
def die_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that names the step at which the next process dies."""
    return tmp_path_factory.mktemp("die") / "at"


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory, die_at: Path) -> Iterator[World]:
    yield from chaos_world(tmp_path_factory.mktemp("chaos"), die_at)


def chaos_world(folder: Path, die_at: Path, **env: str) -> Iterator[World]:
    """Endpoints: `fast`; `single`, of which one job is at RunPod at a time; and `failing`."""
    profiles = folder / "profiles.toml"
    profiles.write_text('[endpoints.single]\nid = "single"\nmax_in_flight = 1\n')
    with World(
        folder,
        endpoints=[
            "fast=synthetic:duration=0.3",
            "single=synthetic:duration=0.3",
            "failing=synthetic:duration=0.1,failures=1",
        ],
        env={**SHORT_WAITS, "RUNPOD_DIE_AT": str(die_at), "RUNPOD_CONFIG": str(profiles), **env},
    ) as world:
        yield world.start()
