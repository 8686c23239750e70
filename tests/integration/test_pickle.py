"""An endpoint between the tasks of an application whose messages are pickled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chain

from celery_runpod import Endpoint
from tests import pickling
from tests.servers import ROOT, World
from tests.waiting import eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, endpoints=["fast=synthetic:duration=0.3"]) as world:
        world.start(application=None)
        # As root, Celery refuses to unpickle unless it is told.
        env = {"C_FORCE_ROOT": "1"}
        world.stack.application("tests.pickling", cwd=ROOT, env=env)
        yield world


def test_the_steps_around_an_endpoint_are_sent_as_their_worker_takes_them(world: World) -> None:
    app = pickling.app
    app.conf.update(broker_url=world.redis_url, result_backend=world.redis_url)
    fast = Endpoint("fast", app=app).using(backoff={"first": 0.2, "cap": 0.5})
    flow = chain(pickling.packed.s(1), fast.s(steps=3), pickling.packed.s(), pickling.unpacked.s("more"), app=app)
    assert flow.delay().get(timeout=60) == [{"value": {"value": 1, "steps": 3}}, "more"]
    eventually(world.open_jobs, [])
