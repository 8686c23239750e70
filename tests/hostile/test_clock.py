"""A machine's clock is set while jobs are open: none ends by it, none is cancelled, and the worker ends."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import WAIT_S, end_of
from tests.servers import ROOT, World
from tests.waiting import eventually

SET = """
import time
from pathlib import Path

_now, _file = time.time, Path({file!r})
time.time = lambda: _now() + float(_file.read_text())
"""


@pytest.fixture
def ahead(tmp_path: Path) -> Path:
    """A file that holds by how many seconds the workers' clock is ahead."""
    (file := tmp_path / "ahead").write_text("0")
    (tmp_path / "sitecustomize.py").write_text(SET.format(file=str(file)))
    return file


@pytest.fixture
def world(tmp_path: Path, ahead: Path) -> Iterator[World]:
    with servers_of(tmp_path / "servers", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}, prepare=start_workers) as made:
        yield made


@pytest.mark.parametrize("jump", ["3600", "-3600"])
def test_a_clock_that_is_set_ends_no_job(world: World, ahead: Path, jump: str) -> None:
    marks = [uuid.uuid4().hex for _ in range(3)]
    results = [world.endpoint("five", deadline=900).delay(mark=mark) for mark in marks]
    eventually(lambda: [world.statuses(mark) for mark in marks], [["IN_PROGRESS"]] * 3, within_s=WAIT_S)
    [worker] = [server for server in world.stack.servers if server.name.startswith("runpod")]
    ahead.write_text(jump)
    eventually(lambda: worker.process.poll() is not None, True, within_s=WAIT_S)
    assert f"clock is {int(jump):+d}.0 s off Redis'" in worker.text()
    # The job may have ended in time, and its result may be on its way.
    assert [result.state for result in results if result.state in ("FAILURE", "REVOKED")] == []
    world.stack.remove(worker)
    worker.log.unlink()
    ahead.write_text("0")
    start_workers(world, application=False)
    assert [end_of(world, result.id) for result in results] == [{"mark": mark} for mark in marks]
    assert [world.statuses(mark) for mark in marks] == [["COMPLETED"]] * 3
