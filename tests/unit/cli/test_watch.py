"""`watch`: a job that somebody else called, to its end; Ctrl-C ends the watching alone."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from redis import Redis

from celery_runpod._cli import follow_job, job_commands, worker_calls
from celery_runpod._cli.worker_calls import watch
from tests.unit.cli.conftest import put


@pytest.fixture(autouse=True)
def one_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory backend belongs to an app."""
    app = job_commands.client()
    monkeypatch.setattr(worker_calls, "client", lambda: app)


def test_a_job_is_watched_to_its_end(runner: CliRunner, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    put(redis, "t1", reason="NO_CAPACITY")
    app = worker_calls.client()
    monkeypatch.setattr(follow_job, "pause", lambda: app.backend.store_result("t1", {"a": 1}, "SUCCESS"))
    answer = runner.invoke(watch, ["t1", "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["output"] == {"a": 1}


def test_ctrl_c_cancels_nothing(runner: CliRunner, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    put(redis, "t3")

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow_job, "pause", interrupted)
    answer = runner.invoke(watch, ["t3"])
    assert answer.exit_code == 130
    assert "the job goes on" in answer.stderr
    assert not redis.exists("runpod:cancel:t3")


def test_an_id_that_nobody_knows(runner: CliRunner, redis: Redis) -> None:
    answer = runner.invoke(watch, ["t9"])
    assert (answer.exit_code, "no job of this namespace" in answer.stderr) == (1, True)


def test_a_call_that_no_worker_has_accepted_yet_is_known(
    runner: CliRunner, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.zadd("{runpod}:outbox", {"t2": 1.0})
    app = worker_calls.client()
    monkeypatch.setattr(follow_job, "pause", lambda: app.backend.store_result("t2", 3, "SUCCESS"))
    answer = runner.invoke(watch, ["t2"])
    assert (answer.exit_code, answer.stdout) == (0, "3\n")
