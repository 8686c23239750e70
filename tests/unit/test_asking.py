"""Asking a worker, when Redis goes away before or while its answer is waited for."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from celery_runpod._asking import ask, refuse_other_endpoint
from celery_runpod.errors import BrokerUnavailable, NoAnswer


class Waiting:
    """The result of a task, whose backend fails."""

    id = "t1"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def get(self, **options: Any) -> Any:
        raise self._error


@pytest.fixture
def app() -> Celery:
    return Celery("unit", broker="memory://", backend="cache+memory://", set_as_current=False)


def test_what_was_not_sent_is_told_so(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **options: Any) -> Any:
        raise NoPermissionError("no permissions to access one of the channels")

    monkeypatch.setattr(app, "send_task", refused)
    with pytest.raises(BrokerUnavailable, match="no permissions"):
        ask("runpod.health", ("e1",), app=app)


@pytest.mark.parametrize("error", [RedisConnectionError("cut"), RuntimeError("Retry limit exceeded")], ids=repr)
def test_what_was_sent_and_not_answered_may_be_carried_out(
    app: Celery, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(app, "send_task", lambda *args, **options: Waiting(error))
    with pytest.raises(NoAnswer, match=r"result backend went away .*task t1.*may still be carried out"):
        ask("runpod.purge_queue", ("e1",), app=app)


def test_without_the_store_nobody_can_tell_whose_job_it_is(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_STORE_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(BrokerUnavailable, match="job store"):
        refuse_other_endpoint(app, "t1", "e1")
