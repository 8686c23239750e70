"""The local stack."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from celery_runpod.cli.stack import Stack
from celery_runpod.errors import ConfigurationError


def test_a_redis_that_is_there_already_is_never_taken_for_its_own(tmp_path: Path) -> None:
    """Its jobs would be looked for in the simulator, and end."""
    with socket.create_server(("127.0.0.1", 0)) as other, Stack(tmp_path, {}) as stack:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} is taken: choose another --redis-port"):
            stack.redis(port=port)
        assert stack.servers == []
