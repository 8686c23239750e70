"""A world on RabbitMQ for a module of tests: quorum queues carry the messages, store and results stay on Redis.

Where no `rabbitmq-server` is installed these tests say so and are skipped.
"""

from __future__ import annotations

import gc
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from celery_runpod._devstack.stack import cli, free_port
from tests.rabbitmq import rabbitmq_server
from tests.servers import ROOT, World, forget_connections
from tests.waiting import eventually

WAIT_S = 90
WORKER = 2
"""Processes of a RunPod worker."""
HTTP_THREADS = 4
ENDPOINTS = (
    "fast=synthetic:duration=0.3",
    "two=synthetic:duration=2",
    "slow=synthetic:duration=60",
    "failing=synthetic:duration=0.1,failures=1",
)
TALKS = """
import time, runpod


def handler(job):
    for word in job["input"]["text"].split():
        time.sleep(0.3)
        yield word


runpod.serverless.start({"handler": handler})
"""
QUORUM = {"x-queue-type": "quorum"}
# A killed worker leaves checks and unanswered submits behind: what they hold must end while the test waits.
SHORT_WAITS = {
    "RUNPOD_SUBMIT_TIMEOUT_S": "3",
    "RUNPOD_POLL_TIMEOUT_S": "2",
    "RUNPOD_SYNC_WAIT_S": "1",
    "RUNPOD_CHECK_TOTAL_S": "6",
    "RUNPOD_CHECK_LEASE_S": "8",
    "RUNPOD_UNCONFIRMED_WINDOW_WEBHOOK_S": "20",
}


@pytest.fixture(scope="module", autouse=True)
def _rabbitmq_is_installed() -> None:
    if rabbitmq_server() is None:
        pytest.skip("no rabbitmq-server is installed: apt install rabbitmq-server (it need not run)")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    env = {
        **SHORT_WAITS,
        "RUNPOD_WEBHOOK_URL": f"http://127.0.0.1:{port}/runpod/webhook",
        "RUNPOD_WEBHOOK_SECRET": "a-secret-of-the-tests-0123456789",
        "RUNPOD_HTTP_THREADS": str(HTTP_THREADS),
    }
    folder = tmp_path_factory.mktemp("rabbit")
    (folder / "talks.py").write_text(TALKS)
    endpoints = (*ENDPOINTS, f"talks={folder / 'talks.py'},workers=1")
    with World(folder, endpoints=endpoints, broker="rabbitmq", env=env) as world:
        world.stack.start("webhooks", [*cli("webhooks"), "--port", str(port)])
        yield world.start(concurrency=WORKER)
        # Celery's results unsubscribe when they are collected: while there is a Redis to do it at.
        gc.collect()


@pytest.fixture
def world(servers: World) -> Iterator[World]:
    forget_connections()
    servers.app()
    yield servers
    servers.no_faults()
    eventually(servers.open_jobs, [], within_s=90)
    forget_connections()


@contextmanager
def no_worker(world: World) -> Iterator[None]:
    """No RunPod worker is up; afterwards another one is."""
    for server in [one for one in world.stack.servers if one.name.startswith("runpod")]:
        world.stack.remove(server)
    yield
    world.stack.worker(f"runpod-{uuid.uuid4().hex[:8]}", concurrency=WORKER, cwd=ROOT)
