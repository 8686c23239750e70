"""The states of open jobs on their results."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from celery import Celery

from celery_app.announcer import Announcer
from tests.builders import NOW, Bench

DAY_S = 86_400


class Backend:
    """As much of Celery's Redis backend as a state needs."""

    expires = DAY_S

    def __init__(self) -> None:
        self.client = fakeredis.FakeRedis(decode_responses=True)

    def _get_result_meta(self, result: Any, state: str, *_: Any) -> dict[str, Any]:
        return {"status": state, "result": result}

    def get_key_for_task(self, task_id: str) -> str:
        return task_id

    def encode(self, meta: Any) -> str:
        return str(meta)


def test_one_stands_for_as_long_as_its_job_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written when it changes: a job of two days would be shown as PENDING on its second."""
    bench, backend = Bench(), Backend()
    job = bench.accepted(end_by=NOW + 2 * DAY_S)
    app = Celery(broker="memory://", set_as_current=False)
    monkeypatch.setattr(Celery, "backend", backend)
    monkeypatch.setattr(app.events, "default_dispatcher", lambda hostname: Silent())
    Announcer(app, None).announce(job, "IN_PROGRESS", {})
    assert backend.client.ttl("t1") > 2 * DAY_S


class Silent:
    """A dispatcher that sends nothing."""

    def __enter__(self) -> Any:
        return SimpleNamespace(send=lambda *args, **fields: None)

    def __exit__(self, *_: object) -> None:
        pass
