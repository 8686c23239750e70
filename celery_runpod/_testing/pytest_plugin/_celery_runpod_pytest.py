"""The pytest fixtures of celery-runpod (docs/testing.md).

pytest imports this module in every project in whose environment celery-runpod is installed. So it lies outside of the
package, whose import loads Celery, and imports pytest alone. The fixtures import what they need when a test asks for one.

Not here: what the fixtures give (`celery_runpod/testing.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def runpod_endpoints() -> Iterator[Any]:
    """Fakes of endpoints: `fake = runpod_endpoints.fake("sdxl", output={"url": "..."})`. Other calls are refused."""
    from celery_runpod.testing import RunPodEndpoints

    with RunPodEndpoints() as endpoints:
        yield endpoints


@pytest.fixture(scope="session")
def runpod_local_endpoints() -> list[str]:
    """The endpoints of the local RunPod: override it, as `return ["sdxl=handlers/sdxl.py"]`."""
    return []


@pytest.fixture(scope="session")
def runpod_app() -> Any:
    """Your Celery app for `runpod_worker`; the current one, unless you override it."""
    from celery_runpod._connect import client_app

    return client_app()


@pytest.fixture(scope="session")
def _runpod_simulator_process(runpod_local_endpoints: list[str]) -> Iterator[Any]:
    from celery_runpod._testing.local_servers import LocalServers

    servers = LocalServers(runpod_local_endpoints, worker=False)
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def _runpod_worker_processes(runpod_local_endpoints: list[str]) -> Iterator[Any]:
    from celery_runpod._testing.local_servers import LocalServers

    servers = LocalServers(runpod_local_endpoints, worker=True)
    yield servers
    servers.stop()


@pytest.fixture
def runpod_simulator(_runpod_simulator_process: Any) -> Iterator[Any]:
    """A local RunPod (`celery_runpod.testing.LocalRunPod`), without jobs of other tests. It is started once."""
    with _runpod_simulator_process.simulator() as runpod:
        yield runpod


@pytest.fixture
def runpod_worker(_runpod_worker_processes: Any, runpod_app: Any) -> Iterator[Any]:
    """Redis, a local RunPod, a RunPod worker, and a worker of your app (`runpod_app`) in a thread; gives the local
    RunPod. The servers are started once."""
    with _runpod_worker_processes.own_worker(runpod_app) as runpod:
        yield runpod
