"""A whole worker, parent and child, is killed with SIGKILL at every numbered step of a job's life."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chain, chord

from tasks.crash_points import Step
from tests.application import collect, same
from tests.chaos.conftest import chaos_world
from tests.chaos.test_kills import CHORD, submits
from tests.servers import ROOT, World
from tests.waiting import eventually


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory, die_at: Path) -> Iterator[World]:
    # Also a call whose worker is killed is found again before it counts as one that may have been run.
    yield from chaos_world(
        tmp_path_factory.mktemp("chaos"), die_at, RUNPOD_UNCONFIRMED_WINDOW_S="60", RUNPOD_HTTP_THREADS="1"
    )


def test_chords_outlive_the_kill_of_a_whole_worker_at_every_step(chaos: World, die_at: Path) -> None:
    """Parent and child at once: the messages that they held come back after the visibility timeout. One POST at a
    time: another one might be killed before its answer, and then nobody can know whether RunPod took the job."""
    chaos.stack.remove(next(server for server in chaos.stack.servers if server.name == "runpod0"))
    chaos.stack.worker("before", concurrency=1, cwd=ROOT)
    sent = []
    for number, step in enumerate(CHORD):
        mark = uuid.uuid4().hex
        fast = chaos.endpoint("fast", sync=step is Step.SYNC_RECEIVED)
        die_at.write_text(f"{step} all")
        header = [chain(fast.s(n=1, mark=mark), same.s()), fast.s(n=2, mark=mark)]
        sent.append((step, mark, chord(header, collect.s()).delay()))
        eventually(die_at.exists, False, within_s=60)
        chaos.stack.worker(f"after{number}", concurrency=1, cwd=ROOT)
    for step, mark, result in sent:
        assert result.get(timeout=150) == [{"n": 1, "mark": mark}, {"n": 2, "mark": mark}], step
        assert submits(chaos, mark) == [1, 2], step
    eventually(chaos.open_jobs, [], within_s=90)
