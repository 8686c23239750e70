"""What must hold before a process works with the job store: the clock, and whose store it is.

The worker refuses to start otherwise (`celery_app/watchdog/self_healing.py`), and doctor reports it. Pure: what
Redis answered is an argument.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from celery_runpod._connect import mask_url

MOST_CLOCK_SKEW_S = 1.0


def clock_problem(skew_s: float) -> str | None:
    """What is wrong with a clock that is `skew_s` ahead of Redis'; None: nothing."""
    if abs(skew_s) <= MOST_CLOCK_SKEW_S:
        return None
    return f"this machine's clock is {skew_s:+.1f} s off Redis'; at most {MOST_CLOCK_SKEW_S:g} s is allowed"


def owner_of(broker_url: str, result_backend: str) -> dict[str, str]:
    """What the store keeps of the installation that began a namespace; without passwords."""
    return {"broker": mask_url(broker_url), "backend": mask_url(result_backend)}


def problems_of_owner(namespace: str, mine: Mapping[str, str], begun: str) -> list[str]:
    """Where this installation is not the one that began the namespace. `begun` is the `owner_of` of that one, as JSON."""
    kept = json.loads(begun)
    return [
        f"namespace {namespace!r} was begun with the {name} {kept.get(name)}, not {url}"
        for name, url in mine.items()
        if kept.get(name) != url
    ]
