"""The set of servers of `demo` and `dev`: Redis, simulator, RunPod worker, and the demo's own application.

Ctrl-C, SIGTERM and SIGHUP are noticed at safe points only (between looks, never between starting a process and noting
it down), so that whatever was started is stopped.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from celery_runpod._devstack.stack import Stack
from celery_runpod.errors import ConfigurationError

API_KEY = "local-key"
HANDLER = Path(__file__).resolve().parent.parent / "demo" / "handler.py"
APPLICATION = "celery_runpod._demo.application"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The user, or the system, asked this process to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.status = 128 + signum


class StopSignals:
    """Remembers the first signal that asks to end; `check` raises it where it may be raised."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._signum = 0

    def __enter__(self) -> Self:
        self._before = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: Any) -> None:
        self._signum = self._signum or signum
        self._asked.set()

    def check(self) -> None:
        if self._signum:
            raise Interrupted(self._signum)

    def wait(self, seconds: float) -> None:
        """Wait, or raise `Interrupted` as soon as a signal comes."""
        self._asked.wait(seconds)
        self.check()


class LocalStack(Stack):
    """A stack that notices signals while a server starts."""

    def __init__(self, folder: Path, signals: StopSignals) -> None:
        super().__init__(folder)
        self.signals = signals

    def while_starting(self) -> None:
        self.signals.check()

    def begin(
        self,
        endpoints: Sequence[str],
        say: Callable[[str], None],
        *,
        redis_port: int | None = None,
        simulator_port: int = 0,
    ) -> None:
        """Start Redis, the simulator with these endpoints, and a RunPod worker; `env` then names them."""
        say("starting Redis")
        self.env["REDIS_URL"] = self.redis(port=redis_port)
        self.env["RUNPOD_API_KEY"] = API_KEY
        say("starting the simulator, a local RunPod")
        address = self.simulator(*endpoints, port=simulator_port) + "/v2"
        self.env["RUNPOD_BASE_URL"] = self.env["RUNPOD_REST_URL"] = address
        say("starting the RunPod worker")
        self.worker()

    def check(self) -> None:
        """Raise if a server has ended by itself.

        Raises:
            ConfigurationError: its name and the end of its log.
        """
        for server in self.servers:
            if (status := server.process.poll()) is not None:
                end = server.text()[-3000:]
                raise ConfigurationError(f"{server.name} ended with status {status}; its log ends:\n{end}")


@contextmanager
def local_stack(name: str) -> Iterator[tuple[LocalStack, StopSignals]]:
    """A stack in a folder of its own; at the end all is stopped, and the folder gone."""
    with (
        StopSignals() as signals,
        tempfile.TemporaryDirectory(prefix=f"celery-runpod-{name}-") as folder,
        LocalStack(Path(folder), signals) as stack,
    ):
        yield stack, signals


@contextmanager
def environment_of(stack: Stack) -> Iterator[None]:
    """This process as a client of the stack, whatever its own environment says."""
    names = ("RUNPOD_", "REDIS_", "CELERY_")
    before = {name: value for name, value in os.environ.items() if name.startswith(names)}
    for name in before:
        del os.environ[name]
    added = {name: value for name, value in stack.env.items() if name.startswith(names)}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        os.environ.update(before)
