"""The user's tasks of a chaos run: each leaves a mark in Redis, so that how often it ran can be counted.

Not here: the app itself, which is `tests/application.py`'s.
"""

from __future__ import annotations

from typing import Any

from tests.application import app

RAN = "chaos:ran:"
"""Prefix of the lists that the tasks append to, one a task id."""


def _mark(own_id: str) -> None:
    app.backend.client.rpush(f"{RAN}{own_id}", "ran")


@app.task
def step(value: dict[str, Any], own_id: str) -> dict[str, Any]:
    """One step of a chain: what came in, with this step put on its path."""
    _mark(own_id)
    return {**value, "path": [*value["path"], own_id]}


@app.task
def gather(values: list[Any], own_id: str) -> list[Any]:
    """The body of a chord."""
    _mark(own_id)
    return values


@app.task
def note(value: Any, own_id: str) -> None:
    """A link, or an errback: the value is an output, or the id of the task that failed."""
    _mark(own_id)
