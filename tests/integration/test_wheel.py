"""The wheel, in a project whose own packages have the names of the worker's: `config`, `tasks`, `celery_app`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_runpod._devstack.stack import Server
from tests.servers import World
from tests.waiting import eventually
from tests.wheel import python_with_the_wheel

OWN = ("config", "tasks", "celery_app")

CLIENT = """
import json
import sys

import celery_runpod
import config, tasks, celery_app
from celery_runpod import Endpoint

app = celery_app.app
result = Endpoint("fast").delay(a=1)
after = celery_app.own.delay(1)
print(json.dumps({
    "file": celery_runpod.__file__,
    "markers": [config.MARKER, tasks.MARKER, celery_app.MARKER],
    "result": result.get(timeout=60),
    "id": result.id,
    "after": after.get(timeout=60),
    "service": [name for name in sys.modules if name.startswith("celery_runpod._service")],
}))
"""

APP = """
import os

from celery import Celery

MARKER = "celery_app of the project"
app = Celery("project", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.set_default()


@app.task(name="project.own")
def own(value):
    import config, tasks
    return [value, config.MARKER, tasks.MARKER]
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment, with the wheel in it and the checkout nowhere on its path."""
    return python_with_the_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in OWN:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"MARKER = {f'{name} of the project'!r}\n")
    (folder / "celery_app" / "__init__.py").write_text(APP)
    (folder / "client.py").write_text(CLIENT)
    return folder


@pytest.fixture
def world(tmp_path: Path, project: Path) -> Iterator[World]:
    with World(tmp_path / "world") as world:
        del world.stack.env["PYTHONPATH"]
        yield world


def _ready(server: Server) -> bool:
    return " ready." in server.text()


def _run(world: World, python: Path, project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(python), *arguments], cwd=project, env=world.stack.env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_project_with_packages_of_the_same_names(world: World, python: Path, project: Path) -> None:
    worker = [str(python), "-m", "celery_runpod._cli.main", "worker", "-n", "runpod@%h", "-c", "2", "-l", "INFO"]
    world.stack.start("worker", worker, cwd=project, ready=_ready)
    own = [str(python), "-m", "celery", "-A", "celery_app", "worker", "-n", "own@%h", "-c", "1", "-l", "INFO"]
    world.stack.start("own", own, cwd=project, ready=_ready)
    seen = json.loads(_run(world, python, project, "client.py"))
    site = str(next((python.parent.parent / "lib").glob("python*/site-packages")))
    assert seen["file"].startswith(site)
    assert seen["markers"] == [f"{name} of the project" for name in OWN]
    assert seen["result"] == {"a": 1}
    assert seen["after"] == [1, "config of the project", "tasks of the project"]
    assert seen["service"] == []
    eventually(world.open_jobs, [])


def test_the_console_script_from_the_projects_folder(world: World, python: Path, project: Path) -> None:
    """An installed script has its own folder first on its path, not the current one: both ways must work."""
    script = project.parent / "celery-runpod"
    script.write_text(f"#!{python}\nimport sys\nfrom celery_runpod._cli.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    world.stack.start("script", [str(script), "worker", "-c", "1", "-l", "INFO"], cwd=project, ready=_ready)
    shown = _run(world, python, project, "-m", "celery_runpod._cli.main", "run", "fast", "--input", '{"a": 1}')
    assert '"a": 1' in shown
    health = _run(world, python, project, "-m", "celery_runpod._cli.main", "health", "fast", "--json")
    assert json.loads(health)["completed"] == 1


def test_what_is_in_the_wheel(python: Path) -> None:
    site = next((python.parent.parent / "lib").glob("python*/site-packages"))
    assert {entry.name for entry in site.iterdir() if entry.is_dir() and not entry.name.endswith(".dist-info")} == {
        "celery_runpod"
    }
    assert {entry.name for entry in (site / "celery_runpod" / "_service").iterdir()} >= set(OWN)
    assert list((site / "celery_runpod" / "_store" / "scripts").glob("*.lua"))
    assert (site / "celery_runpod" / "py.typed").exists()
