"""Tests of code that calls endpoints, without RunPod (docs/testing.md).

    fake_endpoint      a fake in the test's own process: no server is needed
    local_simulator    a local RunPod over HTTP
    local_worker       Redis, a local RunPod, a RunPod worker, and your own worker

The pytest fixtures `runpod_endpoints`, `runpod_simulator` and `runpod_worker` are the same, and need no import.

Import it in tests alone: it costs a web process time, and does nothing for it.
"""

from __future__ import annotations

from celery_runpod._testing.fake_endpoint import FakeCall, FakeEndpoint, RunPodEndpoints, fake_endpoint
from celery_runpod._testing.local_servers import LocalRunPod, local_simulator, local_worker

__all__ = [
    "FakeCall",
    "FakeEndpoint",
    "LocalRunPod",
    "RunPodEndpoints",
    "fake_endpoint",
    "local_simulator",
    "local_worker",
]
