"""A server on loopback, clients for it, and an environment without other people's keys and proxies."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_runpod.api import ManagementClient, RunPodClient

from .certificates import self_signed
from .servers import Answer, Loopback

KEY = "rpa_SECRET0123456789abcdefghijklmnopqrstuvwxyz"

Serve = Callable[..., Loopback]
MakeClient = Callable[..., RunPodClient]
MakeManager = Callable[..., ManagementClient]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RUNPOD_") or name.lower().endswith("_proxy") or name.endswith("CA_BUNDLE"):
            monkeypatch.delenv(name)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(answer)` starts a server."""
    servers: list[Loopback] = []

    def start(told: Answer, **options: Any) -> Loopback:
        servers.append(Loopback(told, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def client_of() -> Iterator[MakeClient]:
    """`client_of(server)` is a client that talks to it; further arguments are RunPodClient's."""
    clients: list[RunPodClient] = []

    def make(server: Loopback, **options: Any) -> RunPodClient:
        clients.append(RunPodClient(**{"api_key": KEY, "base_url": server.url} | options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def manager_of() -> Iterator[MakeManager]:
    """`manager_of(server, "v1")` is a client of the management API; further arguments are ManagementClient's."""
    clients: list[ManagementClient] = []

    def make(server: Loopback, version: str = "v2", **options: Any) -> ManagementClient:
        url = f"{server.origin}/{version}"
        clients.append(ManagementClient(**{"api_key": KEY, "base_url": url, "rest_version": version} | options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
