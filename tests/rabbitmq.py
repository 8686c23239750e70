"""A RabbitMQ for one test module: its own node on loopback, with its own data, log and name server; plain AMQP."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kombu import Connection
from kombu.exceptions import OperationalError

from celery_runpod._devstack.stack import Server, Stack, free_port

DEBIANS_OWN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The one on the path is a wrapper there, which starts the system's node as the system's user."""


def rabbitmq_server() -> str | None:
    """The path of a rabbitmq-server; None where none is installed."""
    found = shutil.which("rabbitmq-server")
    if found is None or shutil.which("epmd") is None:
        return None
    return str(DEBIANS_OWN) if DEBIANS_OWN.exists() else found


class Rabbit:
    """One node; it can be killed and started again on its data."""

    def __init__(self, stack: Stack) -> None:
        command = rabbitmq_server()
        assert command is not None, "no rabbitmq-server is installed"
        self._command = command
        self._stack = stack
        self._folder = stack.folder / "rabbitmq"
        self._folder.mkdir()
        (self._folder / "plugins").write_text("[].\n")
        self._port, self._epmd, self._peers = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"
        # Erlang would start this one itself, and leave it behind.
        epmd = ["epmd", "-port", str(self._epmd), "-address", "127.0.0.1"]
        stack.start("epmd", epmd, env=self._env)
        self.start()

    @property
    def _env(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "HOME": folder,
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self._port}@localhost",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._peers),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/none",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
        }

    def start(self) -> None:
        """Start the node, and wait until it takes connections."""
        self.server: Server = self._stack.start("rabbitmq", [self._command], env=self._env, ready=self._answers)

    def kill(self) -> None:
        """End the node at once; its data stay."""
        self.server.kill(signal.SIGKILL)
        self.server.process.wait()
        self._stack.remove(self.server)

    def control(self, *arguments: str) -> None:
        """Have `rabbitmqctl` do something with the node."""
        ctl = str(Path(self._command).with_name("rabbitmqctl"))
        env = {**os.environ, **self._env}
        done = subprocess.run([ctl, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def short_of_memory(self) -> Iterator[None]:
        """Meanwhile it reads nothing more from a connection that publishes."""
        self.control("set_vm_memory_high_watermark", "0.00001")
        try:
            yield
        finally:
            self.control("set_vm_memory_high_watermark", "0.6")

    def delete(self, queue: str) -> None:
        with self.connection() as connection:
            connection.default_channel.queue_delete(queue)

    def connection(self) -> Any:
        return Connection(self.url, connect_timeout=2)

    def arguments_refused(self, name: str, arguments: dict[str, Any]) -> str | None:
        """RabbitMQ's words when a queue is declared with these arguments; None if they are the ones it has."""
        with self.connection() as connection:
            try:
                connection.default_channel.queue_declare(
                    queue=name, durable=True, auto_delete=False, arguments=arguments
                )
            except connection.channel_errors as error:
                return str(error)
        return None

    def waiting(self, name: str) -> int:
        """How many messages are ready in a queue."""
        with self.connection() as connection:
            return int(connection.default_channel.queue_declare(queue=name, passive=True).message_count)

    def _answers(self, _: Server) -> bool:
        try:
            with self.connection() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0.05, timeout=2)
            return True
        except (OSError, OperationalError):
            return False
