"""Where the key and the address come from, and which ids may stand in a path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celery_runpod.api import RunPodClient
from celery_runpod.api._access import path_of
from celery_runpod.errors import ConfigurationError, InvalidInput, InvalidOption, NotConfigured

from .conftest import KEY, MakeClient, Serve
from .servers import Loopback, answer

COMPLETED = {"id": "a", "status": "COMPLETED"}


def bearer(server: Loopback) -> str:
    return server.requests[-1].headers["authorization"]


def test_no_key_at_all() -> None:
    with pytest.raises(NotConfigured, match="RUNPOD_API_KEY_FILE"):
        RunPodClient()


def test_the_key_of_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(lambda _: answer(COMPLETED))
    monkeypatch.setenv("RUNPOD_API_KEY", "from-the-environment")
    RunPodClient(base_url=server.url).status("sdxl", "a")
    assert bearer(server) == "Bearer from-the-environment"


def test_a_key_file_is_read_on_every_call(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, file = serve(lambda _: answer(COMPLETED)), tmp_path / "key"
    monkeypatch.setenv("RUNPOD_API_KEY_FILE", str(file))
    file.write_text("first\n")
    client = RunPodClient(base_url=server.url)
    client.status("sdxl", "a")
    assert bearer(server) == "Bearer first"
    file.write_text("second\n")
    client.status("sdxl", "a")
    assert bearer(server) == "Bearer second"
    file.unlink()
    with pytest.raises(NotConfigured, match="No such file"):
        client.status("sdxl", "a")


def test_a_key_file_that_is_missing_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(NotConfigured, match="none cannot be read: No such file"):
        RunPodClient()


def test_a_function_gives_the_key_of_each_call(serve: Serve, client_of: MakeClient) -> None:
    server, keys = serve(lambda _: answer(COMPLETED)), iter(["one", "two", ""])
    client = client_of(server, api_key=lambda: next(keys))
    client.status("sdxl", "a")
    client.status("sdxl", "a")
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer one", "Bearer two"]
    with pytest.raises(NotConfigured):
        client.status("sdxl", "a")


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "tab\tulator", "ключ"])
def test_a_key_that_cannot_be_one(key: str) -> None:
    with pytest.raises(NotConfigured) as caught:
        RunPodClient(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "given", "url"),
    [
        ({}, None, "https://api.runpod.ai/v2"),
        ({"RUNPOD_ENDPOINT_BASE_URL": "http://sdk/v2/"}, None, "http://sdk/v2"),
        ({"RUNPOD_ENDPOINT_BASE_URL": "http://sdk", "RUNPOD_BASE_URL": "http://ours/v2"}, None, "http://ours/v2"),
        ({"RUNPOD_BASE_URL": "http://ours/v2"}, "http://given:8900", "http://given:8900"),
    ],
)
def test_where_the_base_url_comes_from(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], given: str | None, url: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert repr(RunPodClient(KEY, base_url=given)) == f"RunPodClient(base_url={url!r})"


@pytest.mark.parametrize(
    "url",
    [
        "api.runpod.ai/v2",
        "ftp://api.runpod.ai",
        "https://",
        "https://user:hush@api.runpod.ai",
        "https://api.runpod.ai/v2?x=1",
        "https://api.runpod.ai/#x",
        "https://api.runpod.ai:port",
        "https://[::1",
    ],
)
def test_a_base_url_that_cannot_be_one(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the base URL") as caught:
        RunPodClient(KEY, base_url=url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", True])
def test_a_timeout_that_cannot_be_one(timeout: Any) -> None:
    with pytest.raises(InvalidOption, match="total_timeout"):
        RunPodClient(KEY, total_timeout=timeout)
    with pytest.raises((InvalidOption, TypeError)):
        RunPodClient(KEY).status("sdxl", "a", timeout=-1)


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "a..b", "a/b", "a/../b", "a b", "a?b", "a#b", "a%2fb", "a\nb", "é", "x" * 300, None, 7, b"a"],
)
def test_ids_that_lead_elsewhere_are_refused_and_nothing_is_sent(
    serve: Serve, client_of: MakeClient, name: Any
) -> None:
    server = serve(lambda _: answer(COMPLETED))
    client = client_of(server)
    for call in (
        lambda: client.run(name, 1),
        lambda: client.status(name, "a"),
        lambda: client.status("sdxl", name),
        lambda: client.cancel("sdxl", name),
        lambda: client.stream("sdxl", name),
        lambda: client.health(name),
    ):
        with pytest.raises(InvalidInput, match="cannot be the id"):
            call()
    assert server.connections == 0


@pytest.mark.parametrize("job_id", ["9f3c-u1", "sync-0a1b-e1", "a", "A_b.c~d", "x:1=2+3@4"])
def test_ids_are_opaque_otherwise(serve: Serve, client_of: MakeClient, job_id: str) -> None:
    server = serve(lambda _: answer({"status": "IN_QUEUE"}))
    assert client_of(server).status("black-forest-labs-flux-1-schnell", job_id).id == job_id
    assert server.requests[0].path.startswith("/v2/black-forest-labs-flux-1-schnell/status/")
    assert path_of("e", "status", "a:b") == "e/status/a%3Ab"
