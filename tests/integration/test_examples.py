"""The example applications run as they are, against the simulator."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import requests

from celery_runpod._devstack.stack import free_port
from tests.servers import ROOT, World
from tests.waiting import eventually


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code < 500
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Without the tests' own application worker: it would take the examples' tasks from the shared queue."""
    with World(tmp_path_factory.mktemp("examples"), endpoints=["echo=examples/handlers/echo.py"]) as world:
        yield world.start(application=None)


@pytest.mark.parametrize(
    ("module", "folder", "serve", "slash"),
    [
        ("examples.flask_app.app:celery", ".", ["-m", "flask", "--app", "examples.flask_app.app", "run", "--port"], ""),
        ("project", "examples/django_app", ["manage.py", "runserver", "--noreload"], "/"),
    ],
    ids=["flask", "django"],
)
def test_an_example_enqueues_and_shows_the_result(
    alone: World, module: str, folder: str, serve: list[str], slash: str
) -> None:
    port, cwd = free_port(), ROOT / folder
    env = {"PYTHONPATH": f"{cwd}:{ROOT}", "DJANGO_DEBUG": "1"}
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, *serve, str(port)]
    web = alone.stack.start("web", command, env=env, cwd=cwd, ready=lambda _: _answers(f"{base}/images/none{slash}"))
    worker = alone.stack.application(module, "web-worker", concurrency=1, env=env, cwd=cwd)
    try:
        asked = requests.post(f"{base}/images{slash}", json={"prompt": "a cat", "order": "7"}, timeout=10).json()
        eventually(
            lambda: requests.get(f"{base}/images/{asked['order']}{slash}", timeout=10).json()["result"],
            {"order": "7", "output": {"prompt": "a cat"}},
            within_s=60,
        )
    finally:
        alone.stack.remove(worker)
        alone.stack.remove(web)
