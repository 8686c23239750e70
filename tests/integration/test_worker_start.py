"""Workers that must not start, how they are called, and queues to which nobody listens, with real processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_runpod._cli.doctor.server_checks import check_consumers
from celery_runpod._devstack.stack import cli
from celery_runpod.errors import ConfigurationError
from tests.application import same
from tests.servers import ROOT, World
from tests.waiting import eventually


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[World]:
    """Redis and a simulator, and no worker."""
    with World(tmp_path) as world:
        yield world


@pytest.mark.parametrize(
    "command",
    [cli("worker", "-c", "1"), [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "1"]],
    ids=["celery-runpod worker", "celery -A celery_app worker"],
)
def test_a_worker_without_an_api_key_does_not_start(idle: World, command: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"status 1(.|\n)*no RunPod API key: set RUNPOD_API_KEY"):
        idle.stack.start("without-key", command, env={"RUNPOD_API_KEY": ""}, cwd=ROOT, ready=lambda _: False)


@pytest.mark.parametrize(
    ("command", "env"),
    [
        ([*cli("worker", "-c", "1"), "--pool", "gevent"], {}),
        ([*cli("worker", "-c", "1"), "-P", "threads"], {"RUNPOD_IMPORTS": "tests.application"}),
        (
            [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "1", "-P", "threads"],
            {"RUNPOD_IMPORTS": "tests.application"},
        ),
    ],
    ids=["gevent", "threads with imports", "threads with imports, by Celery's command"],
)
def test_a_worker_with_a_pool_that_cannot_keep_the_promises_does_not_start(
    idle: World, command: list[str], env: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"status 1(.|\n)*--?(pool|P) (gevent|threads?) (with|given)"):
        idle.stack.start("refused", command, env=env, cwd=ROOT, ready=lambda _: False)


def test_both_kinds_of_workers_have_names_of_their_own_and_are_heard(idle: World) -> None:
    app = idle.app()
    same.delay(1)
    idle.endpoint("fast").delay(a=1)
    unheard = [f"queue {name}" for name in ("celery", "runpod")]
    assert [one.check for one in check_consumers(idle.redis_url, ["celery", "runpod", "none"])] == unheard
    idle.stack.start("runpod", cli("worker", "-c", "1"), cwd=ROOT)
    own = [sys.executable, "-m", "celery", "-A", "tests.application", "worker", "-c", "1"]
    idle.stack.start("own", own, cwd=ROOT)
    eventually(
        lambda: sorted(name.split("@")[0] for name in app.control.inspect(timeout=1).active_queues() or ()),
        ["celery", "runpod"],
        within_s=60,
    )
    assert check_consumers(idle.redis_url, ["celery", "runpod"]) == []
