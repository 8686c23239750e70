"""The command line in tests: in the test's own process, or as a process of its own where that is what is tested.

A command in its own process costs seconds of imports; in the test's process it costs what it does.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from celery import _state
from click.testing import CliRunner

from celery_runpod._cli.main import main
from celery_runpod._devstack.stack import cli

FOREIGN = ("RUNPOD_", "REDIS_", "CELERY_")
"""Variables of the shell that runs the tests; no command sees them."""

Answer = subprocess.CompletedProcess[str]


class EntryPoint(click.Command):
    """The entry point, errors included, in the shape that click's runner calls."""

    def main(self, args: Any = None, prog_name: str | None = None, **extra: Any) -> Any:
        return main(list(args))


def in_process(*arguments: str, env: Mapping[str, str], said: str = "") -> Answer:
    """Run a command in this process. An exception that the command does not handle is raised here."""
    hidden = {name: None for name in os.environ if name.startswith(FOREIGN)}
    with no_app():
        result = CliRunner(catch_exceptions=False).invoke(
            EntryPoint("celery-runpod"), list(arguments), input=said, env={**hidden, **env}
        )
    return subprocess.CompletedProcess(list(arguments), result.exit_code, result.stdout, result.stderr)


def as_process(*arguments: str, env: Mapping[str, str], said: str = "") -> Answer:
    """Run a command as a shell does."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return subprocess.run(
        cli(*arguments), input=said, env={**inherited, **env}, capture_output=True, text=True, timeout=120, check=False
    )


@contextmanager
def no_app() -> Iterator[None]:
    """No Celery app is configured, as in a fresh process; afterwards the apps of this one are the current ones again."""
    default, current = _state.default_app, _state._tls.current_app
    _state.default_app = _state._tls.current_app = None
    try:
        yield
    finally:
        _state.default_app, _state._tls.current_app = default, current
