"""A worker's child is killed inside Celery's own work, between the steps that `tasks/crash_points.py` can name."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chain, chord
from celery.result import AsyncResult

from tests.application import collect, note, same
from tests.chaos.conftest import SHORT_WAITS
from tests.chaos.dying import CHORD_CLAIMED, CHORD_SENT, DISPATCHED, STORED
from tests.servers import World
from tests.waiting import eventually


@pytest.fixture(scope="module")
def dying_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dying") / "at"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, dying_at: Path) -> Iterator[World]:
    env = {**SHORT_WAITS, "RUNPOD_IMPORTS": "tests.chaos.dying", "DYING_AT": str(dying_at)}
    with World(tmp_path_factory.mktemp("celery"), endpoints=["fast=synthetic:duration=0.3"], env=env) as world:
        yield world.start()


@pytest.fixture(scope="module")
def killed(world: World, dying_at: Path) -> dict[str, tuple[str, AsyncResult]]:
    """By place: the mark and the result of a canvas that one process died in. What they had claimed lapses after
    RUNPOD_CLAIM_LEASE_S, so each dies right after the other, and all claims lapse in the same time."""
    fast = world.endpoint("fast")
    found = {}
    for place in (CHORD_CLAIMED, CHORD_SENT, STORED, DISPATCHED):
        mark = uuid.uuid4().hex
        dying_at.write_text(place)
        if place == DISPATCHED:
            result = chain(fast.s(n=1, mark=mark), fast.s(n=2), same.s()).delay()
        else:
            header = [fast.s(n=1, mark=mark), fast.s(n=2, mark=mark)]
            result = chord(header, collect.s()).apply_async(link=note.s(mark))
        eventually(dying_at.exists, False, within_s=60)
        found[place] = mark, result
    return found


@pytest.mark.parametrize("place", [CHORD_CLAIMED, CHORD_SENT, STORED])
def test_a_chord_outlives_the_death_of_its_last_member_and_its_body_runs_once(
    world: World, killed: dict[str, tuple[str, AsyncResult]], place: str
) -> None:
    mark, result = killed[place]
    assert result.get(timeout=120) == [{"n": 1, "mark": mark}, {"n": 2, "mark": mark}]
    eventually(lambda: len(world.redis.lrange(mark, 0, -1)), 1)
    assert sorted(job["input"]["n"] for job in world.submits(mark)) == [1, 2]
    eventually(world.open_jobs, [], within_s=90)
    # A worker receives messages in their order: a body that was sent once more came before this one.
    assert same.delay(mark).get(timeout=60) == mark
    log = (world.stack.folder / "application.log").read_text()
    assert log.count(f"Task {collect.name}[{result.id}] received") == 1


def test_a_chains_next_endpoint_is_paid_for_once_though_its_call_goes_out_twice(
    world: World, killed: dict[str, tuple[str, AsyncResult]]
) -> None:
    mark, result = killed[DISPATCHED]
    assert result.get(timeout=120) == {"n": 2, "mark": mark}
    # The first step is delivered only after its claim has lapsed, and sends the second once more.
    eventually(world.open_jobs, [], within_s=90)
    assert result.parent.parent.get(timeout=60) == {"n": 1, "mark": mark}
    assert sorted(job["input"]["n"] for job in world.submits(mark)) == [1, 2]
