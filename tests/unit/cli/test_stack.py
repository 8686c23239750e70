"""The local stack."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from celery_runpod._cli.dev import TILE, dev
from celery_runpod._demo.handler import handler
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
