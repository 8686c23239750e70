"""`celery-runpod demo`: twelve jobs, one chord, one picture, all on this machine and without an account.

It starts Redis, the simulator with a real handler file, the RunPod worker and the worker of a small application, sends
the application's chord, shows each job, and stops everything that it started.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from celery_runpod._cli.output import echo, table_of
from celery_runpod._cli.store_for_commands import open_store
from celery_runpod._demo import APPLICATION, HANDLER
from celery_runpod._devstack.stack import Stack, environment_of, local_stack
from celery_runpod._devstack.stop_signals import Interrupted, StopSignals
from celery_runpod._live.job_rows import Row, rows_of
from celery_runpod._store.store import JobStore
from celery_runpod.errors import ConfigurationError

LOOK_S = 0.25
LONGEST_S = 180.0
"""After this the demo gives up: something is wrong, not slow."""
WORKERS = 2


@click.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("demo-output/picture.png"),
    show_default=True,
    help="Where the picture goes.",
)
def demo(output: Path) -> None:
    """Render a picture with twelve jobs on a local RunPod, and join it with a chord. No account, no API key."""
    output = output.resolve()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"{output.parent} cannot be made: {error.strerror}", param_hint="--output") from None
    started = time.monotonic()
    try:
        with local_stack("demo") as (stack, signals):
            stack.begin([f"tiles={HANDLER},workers={WORKERS},idle=30"], click.echo)
            click.echo("starting the application's own worker")
            stack.application(APPLICATION)
            with environment_of(stack):
                _render(stack, signals, output)
            click.echo("stopping everything")
    except Interrupted as interrupted:
        click.echo("interrupted; everything is stopped", err=True)
        sys.exit(interrupted.status)
    echo(f"the picture lies at {output} ({time.monotonic() - started:.0f} s in all)")


def _render(stack: Stack, signals: StopSignals, output: Path) -> None:
    """Send the chord, and show its jobs until the picture is there."""
    from celery_runpod._demo import application

    url = stack.env["REDIS_URL"]
    application.app.conf.update(broker_url=url, result_backend=url)
    picture = application.picture_of_tiles(str(output)).apply_async()
    header = picture.parent
    if header is None:
        raise ConfigurationError("the chord was sent without its header")
    task_ids = [job.id for job in header.results]
    echo(f"sent: chord of {len(task_ids)} tiles -> join_tiles ({picture.id})")
    board = Board(open_store(), application.ENDPOINT, task_ids)
    give_up = time.monotonic() + LONGEST_S
    try:
        with board.shown():
            while not picture.ready():
                board.look()
                stack.check()
                if time.monotonic() > give_up:
                    raise ConfigurationError(f"no picture after {LONGEST_S:g} s; {_logs(stack)}")
                signals.wait(LOOK_S)
            board.look()
    finally:
        # Celery would end these subscriptions with the interpreter, when Redis has gone.
        if stack.servers[0].process.poll() is None:
            for task_id in (picture.id, *task_ids):
                application.app.backend.result_consumer.cancel_for(task_id)
    if picture.failed():
        error = picture.result
        raise ConfigurationError(f"the chord failed: {type(error).__name__}: {error}; {_logs(stack)}")


def _logs(stack: Stack) -> str:
    return "the logs end:\n" + "\n".join(f"--- {server.name}\n{server.text()[-1500:]}" for server in stack.servers)


class Board:
    """The jobs of the demo: a live table on a terminal, else a line for each change."""

    def __init__(self, reader: JobStore, endpoint: str, task_ids: list[str]) -> None:
        self._reader = reader
        self._endpoint = endpoint
        self._ids = task_ids
        self._rows: dict[str, Row] = {}
        self._checks: dict[str, int] = {}
        self._printed: dict[str, str] = {}
        self._console = Console()
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Live(self.table(), console=self._console, auto_refresh=False) as self._live:
            yield

    def look(self) -> None:
        """Read the records, and show what is new."""
        for row in rows_of(self._reader, self._endpoint, self._ids):
            if row is None:
                continue
            self._rows[row.task_id] = row
            if row.checks is not None:
                self._checks[row.task_id] = row.checks
        if self._live is not None:
            self._live.update(self.table(), refresh=True)
            return
        for number, task_id in enumerate(self._ids, 1):
            state, _, checks, _, progress = self._cells(task_id)
            line = f"tile {number:2}  {state:<12} {progress}".rstrip()
            if self._printed.get(task_id) != line and task_id in self._rows:
                echo(f"{line}  (checks made: {checks})")
                self._printed[task_id] = line

    def table(self) -> Table:
        headings = ("tile", "state at RunPod", "RunPod id", "checks made", "next check in s", "progress")
        return table_of(headings, ((str(number), *self._cells(one)) for number, one in enumerate(self._ids, 1)))

    def _cells(self, task_id: str) -> tuple[str, str, str, str, str]:
        row = self._rows.get(task_id)
        if row is None:
            return "not accepted", "-", "0", "-", ""
        over = row.verdict is not None or row.next_at is None
        in_s: Any = None if over else row.next_in_s(time.time())
        return (
            row.verdict or row.state,
            row.job_id or "-",
            str(self._checks.get(task_id, 0)),
            "-" if in_s is None else f"{in_s:.1f}",
            "" if row.verdict else row.progress.strip('"'),
        )
