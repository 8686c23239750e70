"""Tests of code that calls endpoints, without RunPod (docs/testing.md).

`fake_endpoint` runs in the test's own process, and needs no server.

Import it in tests alone: it costs a web process time, and does nothing for it.
"""

from __future__ import annotations

from celery_runpod._testing.fake_endpoint import FakeCall, FakeEndpoint, RunPodEndpoints, fake_endpoint

__all__ = ["FakeCall", "FakeEndpoint", "RunPodEndpoints", "fake_endpoint"]
