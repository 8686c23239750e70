"""Servers on loopback for tests over HTTP: a local RunPod; or Redis, a local RunPod and a RunPod worker, with your own
Celery worker in a thread of the test.

The servers are processes, ended by their ids when the test is over; if this process is killed, they end with it
(``_devstack/``). Your own worker is a thread, so that it has the test's database, settings and patches: a worker process
would work on the database of development.

Not here: the local RunPod itself (docs/simulator.md); the pytest fixtures (``pytest_plugin/``).
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests
from celery import Celery
from celery.backends.redis import ResultConsumer
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging

from celery_runpod import _stand_ins
from celery_runpod._connect import client_app
from celery_runpod._devstack.stack import API_KEY, Stack, environment_of
from celery_runpod.api import RunPodClient
from celery_runpod.errors import ConfigurationError, MissingExtra

ANSWER_S = 30.0
ONE_PACKAGE_OF = {"simulator": "aiohttp", "worker": "pydantic_settings"}
"""Extra -> a package that comes with it alone."""
NO_ENDPOINTS = (
    "no endpoints are given to the local RunPod: name those that the tests call, as 'sdxl=path/to/handler.py' or "
    "'sdxl=synthetic:duration=0.1'; under pytest, by a session fixture `runpod_local_endpoints` that returns a list"
)


class LocalRunPod:
    """The handle of a local RunPod.

    Args:
        url: where its API is, as `RUNPOD_BASE_URL`.
    """

    api_key = API_KEY

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return f"LocalRunPod({self.url!r})"

    def client(self) -> RunPodClient:
        """A client of it."""
        return RunPodClient(self.api_key, base_url=self.url)

    def jobs(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Every job so far: `id`, `endpoint`, `status`, `input`, `attempts`, ..."""
        found: list[dict[str, Any]] = self._ask("GET", "jobs", params={"endpoint": endpoint} if endpoint else {})
        return found

    def requests(self) -> dict[str, dict[str, int]]:
        """How many requests were answered, by operation and status."""
        found: dict[str, dict[str, int]] = self._ask("GET", "requests")
        return found

    def fault(self, kind: str, **rule: Any) -> str:
        """Begin a fault, as `fault("status", operation="run", status=503, times=2)`; returns its id. The kinds are in
        docs/simulator.md.

        Raises:
            ValueError: the simulator does not take the rule; the text says why.
        """
        return str(self._ask("POST", "faults", json={"kind": kind, **rule})["id"])

    def no_faults(self) -> None:
        """End all faults."""
        self._ask("DELETE", "faults")

    def reset(self) -> None:
        """As at its start: no jobs, no counts, no faults."""
        self._ask("POST", "reset")

    def _ask(self, method: str, route: str, **content: Any) -> Any:
        url = f"{self.url.removesuffix('/v2')}/_simulator/{route}"
        answer = requests.request(method, url, timeout=ANSWER_S, **content)
        if not answer.ok:
            raise ValueError(f"{method} {url}: HTTP {answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else None


class LocalServers:
    """The processes behind `local_simulator` and `local_worker`; they may serve several tests."""

    def __init__(self, endpoints: Sequence[str], *, worker: bool) -> None:
        if isinstance(endpoints, str) or not all(isinstance(one, str) for one in endpoints):
            raise ConfigurationError(f"endpoints: {endpoints!r} given; allowed: texts as 'sdxl=path/to/handler.py'")
        if not endpoints:
            raise ConfigurationError(NO_ENDPOINTS)
        for extra in ("simulator", "worker")[: 2 if worker else 1]:
            if importlib.util.find_spec(ONE_PACKAGE_OF[extra]) is None:
                what = "a local RunPod worker" if worker else "a local RunPod"
                extras = "worker,simulator" if worker else "simulator"
                raise MissingExtra(
                    f"{what} needs the extra {extra!r}, which is not installed: pip install 'celery-runpod[{extras}]'"
                )
        self._exit = ExitStack()
        try:
            folder = self._exit.enter_context(tempfile.TemporaryDirectory(prefix="celery-runpod-test-"))
            self._stack = self._exit.enter_context(Stack(Path(folder)))
            if worker:
                self._stack.begin(endpoints, lambda _: None)
                for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
                    # Celery prefers these to an app's own settings.
                    self._stack.env[name] = self._stack.env["REDIS_URL"]
            else:
                self._stack.env["RUNPOD_API_KEY"] = API_KEY
                address = f"{self._stack.simulator(*endpoints)}/v2"
                self._stack.env["RUNPOD_BASE_URL"] = self._stack.env["RUNPOD_REST_URL"] = address
            self.runpod = LocalRunPod(self._stack.env["RUNPOD_BASE_URL"])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the processes."""
        self._exit.close()

    @contextmanager
    def simulator(self) -> Iterator[LocalRunPod]:
        """One test with the local RunPod, which begins without jobs and faults."""
        self._stack.check()
        self.runpod.reset()
        with environment_of(self._stack):
            yield self.runpod

    @contextmanager
    def own_worker(self, app: Celery, queues: Sequence[str] | None = None) -> Iterator[LocalRunPod]:
        """One test with everything, and a worker of this app in a thread."""
        if _stand_ins.active():
            raise ConfigurationError(
                "a fake endpoint is active: calls would go to it, and not to the local RunPod worker"
            )
        eager = bool(app.conf.task_always_eager)  # read before the environment changes: this loads the settings
        with self.simulator() as runpod:
            app.conf.task_always_eager = False
            _forget_connections(app)
            setup_logging.connect(_leave_logging)
            try:
                with start_worker(
                    app, perform_ping_check=False, queues=queues, shutdown_timeout=ANSWER_S, loglevel="WARNING"
                ):
                    yield runpod
            finally:
                setup_logging.disconnect(_leave_logging)
                app.conf.task_always_eager = eager
                _forget_connections(app)


def _leave_logging(**_: Any) -> None:
    """With a receiver of its signal Celery leaves the logging of the test's process as it is."""


def _forget_connections(app: Celery) -> None:
    """Celery keeps its pools and its backend, whatever the configuration says afterwards."""
    backend = app._backend_cache or getattr(app._local, "backend", None)
    if isinstance(consumer := getattr(backend, "result_consumer", None), ResultConsumer):
        # Results of this test unsubscribe when they are collected, from a server that is no more.
        consumer.subscribed_to.clear()
    # Not closed: kombu keeps one pool for each URL, and the next test uses it.
    app._pool = app.amqp._producer_pool = app._backend_cache = None
    app._local.__dict__.pop("backend", None)


@contextmanager
def local_simulator(*endpoints: str) -> Iterator[LocalRunPod]:
    """A local RunPod on a free loopback port, as a context manager: for tests of code that uses
    `celery_runpod.api.RunPodClient`, or RunPod over HTTP. Meanwhile `RUNPOD_BASE_URL`, `RUNPOD_REST_URL` and
    `RUNPOD_API_KEY` name it.

    Args:
        endpoints: as the `--endpoint` of `celery-runpod simulator`: `"sdxl=handlers/sdxl.py"`,
            `"fast=synthetic:duration=0.1"` (docs/simulator.md).

    Raises:
        MissingExtra: the extra `simulator` is not installed.
        ConfigurationError: an endpoint cannot be read, or the simulator did not start; the text holds its log.
    """
    servers = LocalServers(endpoints, worker=False)
    try:
        with servers.simulator() as runpod:
            yield runpod
    finally:
        servers.stop()


@contextmanager
def local_worker(
    *endpoints: str, app: Celery | None = None, queues: Sequence[str] | None = None
) -> Iterator[LocalRunPod]:
    """Redis, a local RunPod and a RunPod worker, each a process on loopback, and a worker of your own app in a thread:
    for tests of everything but RunPod itself. Meanwhile the app uses that Redis, and eager mode is off.

    Args:
        endpoints: as for `local_simulator`.
        app: your Celery app; by default the current one.
        queues: those that your worker takes; by default the app's own `task_queues`, or the default queue.

    Raises:
        MissingExtra: the extra `worker` or `simulator` is not installed.
        ConfigurationError: a server did not start (the text holds its log), there is no redis-server, or a fake endpoint
            is active.
    """
    servers = LocalServers(endpoints, worker=True)
    try:
        with servers.own_worker(app if app is not None else client_app(), queues) as runpod:
            yield runpod
    finally:
        servers.stop()
