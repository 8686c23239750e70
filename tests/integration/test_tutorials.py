"""A stranger's walk: each tutorial is followed literally, in an empty folder, with only the wheel.

`python -m venv` and `pip install` are the real ones. pip finds our wheel in a folder; its dependencies are there
already, so that the walk needs no network. The ports of the page are replaced by free ones.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import celery
import pytest
from hatchling.builders.wheel import WheelBuilder

from celery_runpod._devstack.stack import redis_server
from tests.pages import blocks, page_port, plain_environment, run_page
from tests.servers import ROOT

PORTS = ("6379", "8900", "5555", "5000", "8000")
OURS = ("celery_runpod", "_celery_runpod", "_editable_impl_celery_runpod", "__editable__")
TUTORIALS = ["docs/tutorial-flask.md", "docs/tutorial-django.md"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of somebody who has Python, Redis and the wheel."""
    assert find_spec("ensurepip"), "a reader's `python -m venv` needs it (Debian, Ubuntu: apt install python3-venv)"
    folder = tmp_path_factory.mktemp("reader")
    next(iter(WheelBuilder(str(ROOT)).build(directory=str(folder / "wheels"), versions=["standard"])))
    dependencies, commands = folder / "dependencies", folder / "bin"
    dependencies.mkdir()
    commands.mkdir()
    for entry in Path(celery.__file__).resolve().parent.parent.iterdir():
        if not entry.name.startswith(OURS) and entry.suffix != ".pth":
            (dependencies / entry.name).symlink_to(entry)
    scripts = {
        "python": f'exec {Path(sys.executable).resolve()} "$@"',
        "redis-server": f'exec {redis_server()} "$@"',
        **{
            name: f'exec python -m {name.replace("django-admin", "django")} "$@"'
            for name in ("celery", "flask", "django-admin")
        },
    }
    for name, line in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{line}\n")
        (commands / name).chmod(0o755)
    env = plain_environment()
    return {
        **env,
        "HOME": str(folder),
        "PATH": f"{commands}:/usr/bin:/bin",
        "PYTHONPATH": str(dependencies),
        "PYTHONUNBUFFERED": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_FIND_LINKS": str(folder / "wheels"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.fixture
def ports() -> dict[str, str]:
    return {port: page_port() for port in PORTS}


@pytest.mark.parametrize("page", TUTORIALS)
def test_a_stranger_follows_it_literally(
    page: str, reader: dict[str, str], ports: dict[str, str], tmp_path: Path
) -> None:
    run_page(page, tmp_path / "empty", reader, python=Path(sys.executable).resolve(), replaced=ports)
    env = (tmp_path / "empty" / ".venv" / "lib").glob("python*/site-packages/celery_runpod/__init__.py")
    assert len(list(env)) == 1


def test_a_tutorial_has_files_commands_and_what_they_write() -> None:
    for page in TUTORIALS:
        assert {block.language for block in blocks(page)} >= {"python", "sh", "text"}
