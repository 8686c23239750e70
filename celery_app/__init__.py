"""The RunPod worker's Celery application: `celery -A celery_app worker`, or `celery-runpod worker`.

The app is made when it is asked for, so that importing this package needs no settings. Start with ``worker_app.py``.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "celery":
        from celery_app.worker_app import create_app

        globals()["celery"] = create_app()
        return globals()["celery"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
