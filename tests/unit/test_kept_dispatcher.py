"""An event makes no dispatcher of its own, and none outlives its connection."""

from __future__ import annotations

from typing import Any

from celery import Celery

from celery_app.overrides.kept_dispatcher import KeptEvents


def test_a_dispatcher_is_kept_as_long_as_its_connection_for_each_host_name() -> None:
    app = Celery("a", broker="memory://", events=KeptEvents, set_as_current=False)
    app.conf.broker_pool_limit = 1

    def dispatcher(hostname: str) -> Any:
        with app.events.default_dispatcher(hostname) as found:
            found.send("task-in_queue", uuid="a")
        assert found.hostname == hostname
        return found

    first = dispatcher("one")
    assert dispatcher("one") is first
    assert dispatcher("other") is not first
    with app.pool.acquire() as connection:
        connection.revive(None)
        fresh = connection.default_channel
    assert dispatcher("one").channel is fresh
