"""One world for a module of tests: servers start once, each test checks that it leaves no job behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_runpod._devstack.stack import Server, free_port
from tests.servers import ROOT, World, answers
from tests.signed_processes import alive
from tests.waiting import eventually

ENDPOINTS = (
    "fast=synthetic:duration=0.3",
    "slow=synthetic:duration=60",
    "five=synthetic:duration=5",
    "failing=synthetic:duration=0.1,failures=1",
    "queued=synthetic:duration=60,workers=1",
    "echo=examples/handlers/echo.py",
    "fail=examples/handlers/fail.py",
    "progress=examples/handlers/progress.py",
)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("world")
    with World(folder, endpoints=ENDPOINTS) as world:
        yield world.start()


@pytest.fixture
def world(servers: World) -> Iterator[World]:
    servers.app()
    yield servers
    servers.no_faults()
    eventually(servers.open_jobs, [], within_s=90)


@pytest.fixture
def django(world: World) -> Iterator[tuple[Server, int]]:
    """The Django project of the tests on uvicorn, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.django_project:asgi", "--factory", "--port", str(port)]
    command += ["--log-level", "warning", "--backlog", "1024"]
    url = f"http://127.0.0.1:{port}/page"
    server = world.stack.start("web", command, cwd=ROOT, ready=lambda _: answers(url))
    try:
        yield server, port
    finally:
        world.stack.remove(server)


@pytest.fixture
def sign() -> Iterator[str]:
    """A variable's value that every process of one test inherits; at the end none may be alive."""
    value = f"{os.getpid()}-{time.monotonic_ns()}"
    yield value
    left: list[str] = []
    try:
        eventually(lambda: [f"{one.pid} {one.cmdline()}" for one in alive(value)], left)
    finally:
        for process in alive(value):
            process.kill()
