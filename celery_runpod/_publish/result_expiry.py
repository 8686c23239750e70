"""Refuses a call whose result, or chord, the Celery app would let expire before the job has ended.

Not here: the same of the RunPod workers' settings (`agreement.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime

from celery import Celery

from celery_runpod._protocol import DEFAULT_DEADLINE_S
from celery_runpod.api._durations import in_seconds
from celery_runpod.errors import ConfigurationError

MARGIN_S = 600.0
"""A chord's counter must outlive its slowest member by this much."""


def check_expiry(app: Celery, endpoint: str, deadline_s: float | None, not_before: float | None) -> None:
    """Raises ConfigurationError where the app's results or chords live for a shorter time than a job may take."""
    wait_s = 0.0 if not_before is None else max(0.0, not_before - datetime.now(UTC).timestamp())
    most_s = round(wait_s + (deadline_s or DEFAULT_DEADLINE_S))
    for name in ("result_expires", "result_chord_expires"):
        expires_s = in_seconds(app.conf.get(name))
        if least_s := too_short(expires_s, most_s):
            raise ConfigurationError(
                f"{name} of the Celery app is {expires_s:g} s, but a job of {endpoint} may take {most_s:g} s "
                f"and a chord or result would be gone before its end: set it to at least {least_s:g}"
            )


def too_short(expires_s: float | None, most_s: float) -> float | None:
    """How long results must live at least, if they expire too early for jobs that may take `most_s`; else None."""
    least_s = most_s + MARGIN_S
    return least_s if expires_s and expires_s < least_s else None
