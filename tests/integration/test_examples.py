"""The Flask example runs as it is, against the simulator. The Django example is in ``test_gallery.py``."""

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


def test_the_flask_application_enqueues_and_shows_the_result(alone: World) -> None:
    port, env = free_port(), {"PYTHONPATH": str(ROOT)}
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "flask", "--app", "examples.flask_app.app", "run", "--port", str(port)]
    web = alone.stack.start("web", command, env=env, cwd=ROOT, ready=lambda _: _answers(f"{base}/images/none"))
    worker = alone.stack.application("examples.flask_app.app:celery", "web-worker", concurrency=1, env=env, cwd=ROOT)
    try:
        asked = requests.post(f"{base}/images", json={"prompt": "a cat", "order": "7"}, timeout=10).json()
        eventually(
            lambda: requests.get(f"{base}/images/{asked['order']}", timeout=10).json()["result"],
            {"order": "7", "output": {"prompt": "a cat"}},
            within_s=60,
        )
    finally:
        alone.stack.remove(worker)
        alone.stack.remove(web)
