"""One process of tests speaks to several Redis servers, one after the other: the app must let go of the last one."""

from __future__ import annotations

from tests.application import app


def forget_connections() -> None:
    """Celery keeps its backend and its pools, whatever the configuration says afterwards."""
    app._pool = None
    app.amqp._producer_pool = None
    app._backend_cache = None
    app._local.__dict__.pop("backend", None)
