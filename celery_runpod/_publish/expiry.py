"""Refuses a call whose result, or chord, the Celery app would let expire before the job has ended.

Not here: the same of the RunPod workers' settings (`agreement.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from celery import Celery

from celery_runpod._protocol import DEFAULT_DEADLINE_S
from celery_runpod.errors import ConfigurationError

MARGIN_S = 600.0
"""A chord's counter must outlive its slowest member by this much."""


def check_expiry(app: Celery, endpoint: str, deadline_s: float | None, not_before: float | None) -> None:
    """Raises ConfigurationError where the app's results or chords live for a shorter time than a job may take."""
    wait_s = 0.0 if not_before is None else max(0.0, not_before - datetime.now(UTC).timestamp())
    most_s = round(wait_s + (deadline_s or DEFAULT_DEADLINE_S))
    for name in ("result_expires", "result_chord_expires"):
        expires = app.conf.get(name)
        seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
        if seconds and seconds < most_s + MARGIN_S:
            raise ConfigurationError(
                f"{name} of the Celery app is {seconds:g} s, but a job of {endpoint} may take {most_s:g} s "
                f"and a chord or result would be gone before its end: set it to at least {most_s + MARGIN_S:g}"
            )
