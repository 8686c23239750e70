"""Django's default database for one test module: SQLite in a file, or a PostgreSQL of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from tests import django_project, postgres

assert django_project.settings.configured


@contextmanager
def database_of(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The settings of a database with the tables of the project; it is this process's default one meanwhile."""
    before = connections.settings["default"]
    if kind == "postgresql" and (why := postgres.missing()):
        pytest.skip(why)
    server = postgres.Postgres() if kind == "postgresql" else None
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db.sqlite3"), "OPTIONS": {"timeout": 20}}
    found = sqlite if server is None else server.settings()
    try:
        _use(connections.configure_settings({"default": found})["default"])
        call_command("migrate", run_syncdb=True, verbosity=0)
        yield found
    finally:
        _use(before)
        if server is not None:
            server.stop()


def _use(settings: Any) -> None:
    connections["default"].close()
    connections.settings["default"] = settings
    del connections["default"]
