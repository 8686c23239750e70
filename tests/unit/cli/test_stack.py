"""The local stack."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from celery_runpod._cli.dev_command import TILE, dev
from celery_runpod._demo import APPLICATION, HANDLER
from celery_runpod._demo.handler import handler
from celery_runpod._devstack.process_guard import Guard
from celery_runpod._devstack.stack import Stack
from celery_runpod.errors import ConfigurationError


def test_a_redis_that_is_there_already_is_never_taken_for_its_own(tmp_path: Path) -> None:
    """Its jobs would be looked for in the simulator, and end."""
    with socket.create_server(("127.0.0.1", 0)) as other, Stack(tmp_path, {}) as stack:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} is taken"):
            stack.redis(port=port)
        assert stack.servers == []


@pytest.mark.parametrize("name", ["redis", "simulator", "flower"])
def test_dev_starts_nothing_where_a_port_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stack, "start", lambda *_, **__: pytest.fail("something was started"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = CliRunner().invoke(dev, [f"--{name}-port", str(port)])
    assert str(ended.exception) == f"port {port} is taken: choose another --{name}-port"


def test_the_input_that_dev_proposes_is_one_of_the_demos_handler() -> None:
    assert handler({"id": "job", "input": TILE})["png"]


def test_the_demos_programs_are_where_the_stack_looks_for_them() -> None:
    assert HANDLER.is_file()
    assert find_spec(APPLICATION) is not None


def test_no_server_outlives_a_stack_that_was_killed(tmp_path: Path) -> None:
    """A killed test run, or a killed demo."""
    code = (
        "import sys, time; from pathlib import Path; from celery_runpod._devstack.stack import Stack; "
        "stack = Stack(Path(sys.argv[1])); "
        "print(stack.start('server', [sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True); "
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = psutil.Process(int(process.stdout.readline()))
        process.kill()
    server.wait(20)


def test_a_guard_forgets_what_has_ended() -> None:
    guard = Guard()
    kept, released = (
        subprocess.Popen(["sleep", "600"], start_new_session=True, preexec_fn=guard.watch()) for _ in range(2)
    )
    try:
        guard.release(released.pid)
        guard.close()
        assert kept.wait(20) == -signal.SIGKILL
        assert released.poll() is None
    finally:
        released.kill()
        released.wait()
