"""Settings that would open a door: what is started with them ends at once and names the variable, never its value."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from celery.bin.celery import celery as celerys_own

import celery_app
from celery_runpod._devstack.stack import Server, cli, free_port, worker_ready
from tests.commands import in_process
from tests.hostile.conftest import servers_of
from tests.hostile.harm import WAIT_S
from tests.servers import World
from tests.waiting import eventually

SECRET = "sixteen characters and more"
EVERYWHERE = "--address=0.0.0.0"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with servers_of(tmp_path_factory.mktemp("starts")) as world:
        yield world


def refused(world: World, arguments: tuple[str, ...], env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The words with which a command ends before it comes to Celery's own."""

    def started(**_: object) -> None:
        pytest.fail(f"{arguments} is started with {env}")

    monkeypatch.setattr(celerys_own, "main", started)
    answer = in_process(*arguments, env={**world.stack.env, **env})
    assert answer.returncode == 1, answer.stdout
    return answer.stderr


def refused_as_process(world: World, arguments: tuple[str, ...], env: dict[str, str], up: str) -> str:
    """The last words of a command that must end by itself; `up` is what it would say if it did not."""
    server = world.stack.start(f"started-{len(world.stack.servers)}-{free_port()}", cli(*arguments), env=env)
    try:
        eventually(lambda: server.process.poll() is not None or up in server.text(), True, within_s=WAIT_S)
        assert server.process.poll() == 1, f"it is up:\n{server.text()[-1500:]}"
        assert "Traceback" not in server.text()
        return server.text()
    finally:
        world.stack.remove(server)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"RUNPOD_BASE_URL": "http://api.example.com/v2"}, "RUNPOD_BASE_URL"),
        ({"RUNPOD_BASE_URL": "http://93.184.216.34/v2"}, "RUNPOD_BASE_URL"),
        ({"RUNPOD_REST_URL": "http://rest.example.com/v1"}, "RUNPOD_REST_URL"),
        ({"RUNPOD_WEBHOOK_URL": "http://example.com/hook", "RUNPOD_WEBHOOK_SECRET": SECRET}, "RUNPOD_WEBHOOK_URL"),
        (
            {"RUNPOD_WEBHOOK_URL": "https://example.com/hook", "RUNPOD_WEBHOOK_SECRET": "hunter2"},
            "RUNPOD_WEBHOOK_SECRET",
        ),
    ],
    ids=repr,
)
def test_a_worker_is_not_started_with_a_setting_that_gives_something_away(
    world: World, env: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = refused(world, ("worker", "-c", "1"), env, monkeypatch)
    assert says in words
    assert "hunter2" not in words


def test_a_worker_is_not_started_without_a_key(world: World) -> None:
    assert "RUNPOD_API_KEY" in refused_as_process(world, ("worker", "-c", "1"), {"RUNPOD_API_KEY": ""}, " ready.")


def test_http_is_taken_where_it_stays_at_home_or_was_asked_for(world: World) -> None:
    """Which addresses are at home: `test_clear_text_stays_allowed_where_it_does_not_leave_the_network`."""
    env = {
        "at-home": {"RUNPOD_BASE_URL": "http://10.1.2.3/v2"},
        "asked-for": {"RUNPOD_BASE_URL": "http://api.example.com/v2", "RUNPOD_ALLOW_HTTP": "1"},
    }
    started = [
        world.stack.start(name, cli("worker", "-n", name, "-c", "1", "--loglevel", "INFO"), env=env[name])
        for name in env
    ]
    try:
        eventually(
            lambda: [one.name for one in started if one.process.poll() is None and not worker_ready(one)], [], 90
        )
        assert {one.name: one.text()[-1500:] for one in started if not worker_ready(one)} == {}
    finally:
        for one in started:
            one.kill()
            world.stack.remove(one)


def test_a_receiver_is_not_started_with_a_secret_that_can_be_guessed(world: World) -> None:
    env = {"RUNPOD_WEBHOOK_SECRET": "hunter2"}
    words = refused_as_process(world, ("webhooks", "--port", str(free_port())), env, " ready at ")
    assert "RUNPOD_WEBHOOK_SECRET" in words and "hunter2" not in words


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ((EVERYWHERE, "--basic-auth="), {}),
        ((EVERYWHERE, "--basic-auth=:"), {}),
        ((EVERYWHERE, "--basic-auth=user:"), {}),
        ((EVERYWHERE, "--basic-auth=:word"), {}),
        ((EVERYWHERE, "--auth="), {}),
        ((EVERYWHERE, "--auth-provider=flower.views.auth.GoogleAuth2LoginHandler"), {}),
        ((EVERYWHERE, "--auth=", "--auth-provider=flower.views.auth.GoogleAuth2LoginHandler"), {}),
        ((EVERYWHERE, "--purge-auth"), {}),
        ((EVERYWHERE,), {"FLOWER_BASIC_AUTH": ":"}),
        (("--address=", "--port=0"), {}),
    ],
    ids=repr,
)
def test_flower_is_served_to_nobody_without_a_password(
    world: World, options: tuple[str, ...], env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without this the command would make the worker's app, for this whole process.
    monkeypatch.setitem(vars(celery_app), "celery", None)
    words = refused(world, ("flower", f"--port={free_port()}", *options), env, monkeypatch)
    assert "FLOWER_BASIC_AUTH" in words or "auth" in words


def test_flower_is_not_started_without_a_password(world: World) -> None:
    words = refused_as_process(world, ("flower", f"--port={free_port()}", EVERYWHERE), {}, "Visit me at")
    assert "FLOWER_BASIC_AUTH" in words


def test_flower_shows_nothing_without_its_password(world: World) -> None:
    port = free_port()
    server: Server = world.stack.start(
        "flower", cli("flower", f"--port={port}"), env={"FLOWER_BASIC_AUTH": "user:word"}
    )
    try:
        eventually(lambda: _status(port, "/workers", "user", "word"), 200, within_s=WAIT_S)
        for path in ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/workers", "/api/tasks"):
            assert _status(port, path) == 401, path
            assert _status(port, path, "", "") == 401, path
        answer = requests.post(f"http://127.0.0.1:{port}/api/task/send-task/runpod.pods.terminate", json={}, timeout=10)
        assert answer.status_code == 401
    finally:
        world.stack.remove(server)


def _status(port: int, path: str, *auth: str) -> int:
    try:
        url = f"http://127.0.0.1:{port}{path}"
        return requests.get(url, auth=(auth[0], auth[1]) if auth else None, timeout=10).status_code
    except requests.RequestException:
        return 0
