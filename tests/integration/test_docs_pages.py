"""Every block of Python and shell in README and docs runs, against real servers, in the order of its page.

The pages of docs share Redis, a local RunPod, a RunPod worker and the worker of the shop (docs/the-shop.md); each has its
own folder. Three commands have a stand-in: `docker` runs a handler with the variables of its command, `pip` installs
nothing, and `make` says what it would do.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import blocks, page_port, pages, run_page
from tests.servers import API_KEY, ROOT, World

ENDPOINTS = [
    *(f"{name}=synthetic:duration=0.3" for name in ("sdxl", "sdxl-turbo", "video", "upscale", "9zt0qb3c")),
    "slow=synthetic:duration=60",
    "fails=synthetic:duration=0.2,failures=1",
]
RUN_ELSEWHERE = {
    "docs/django.md",
    "docs/live.md",
    "docs/rabbitmq.md",
    "docs/testing.md",
    "docs/tutorial-django.md",
    "docs/tutorial-flask.md",
}
"""Pages that another test runs, which names them: each is a project of its own."""
REPLACED = {"your-runpod-key": API_KEY, "ENDPOINT_SDXL=9zt0qb3c": "ENDPOINT_SDXL=sdxl"}
"""Of the README's `.env`."""
THE_SHOP, README = "docs/the-shop.md", "README.md"
RUN_HERE = [
    page
    for page in pages()
    if page not in (README, *RUN_ELSEWHERE)
    and not page.startswith("docs/decisions/")
    and any(block.language in ("python", "sh") for block in blocks(page))
]
DOCKER = """#!{python}
import os, subprocess, sys
variables = dict(pair.split("=", 1) for flag, pair in zip(sys.argv, sys.argv[1:]) if flag == "-e")
given = {{name: value.replace("host.docker.internal", "127.0.0.1") for name, value in variables.items()}}
log = open("container.log", "wb")
subprocess.Popen([{python!r}, {handler!r}], env=os.environ | given, stdout=log, stderr=log)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("pages")
    pods = ["--pod-provisioning", "0.1", "--pod-starting", "0.1"]
    with World(folder / "world", endpoints=ENDPOINTS, simulator=pods, env={"RUNPOD_MANAGEMENT": "on"}) as world:
        prepare(world, folder)
        world.start(application=None)
        own = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-n", "shop@%h", "-c", "2", "-l", "INFO"]
        world.stack.start("shop", own, cwd=folder, ready=lambda server: " ready." in server.text())
        yield world


def prepare(world: World, folder: Path) -> None:
    """Make the environment of a world that of a reader: the commands, and the shop."""
    env, commands = world.stack.env, folder / "bin"
    commands.mkdir()
    programs = {
        "docker": DOCKER.format(python=sys.executable, handler=str(ROOT / "examples/handlers/echo.py")),
        "pip": "#!/bin/sh\n",
        "make": f'#!/bin/sh\nPATH="{env["PATH"]}" exec make --dry-run -C {ROOT} "$@"\n',
    }
    for name, text in programs.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    write_shop(folder)
    env["RUNPOD_REST_URL"] = env["RUNPOD_BASE_URL"]
    env["PATH"] = f"{commands}:{Path(sys.executable).parent}:{env['PATH']}"
    # The page's own folder is first on the path of what it runs, and this one has the shop too.
    env["PYTHONPATH"] = f"{folder}:{ROOT}"


def write_shop(folder: Path) -> None:
    for block in blocks(THE_SHOP):
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text)
    # The pages that start a local RunPod of their own name a handler.
    (folder / "handler.py").write_text((ROOT / "examples/handlers/echo.py").read_text())


@pytest.mark.parametrize("page", RUN_HERE)
def test_every_block_of_a_page_runs(page: str, shop: World, tmp_path: Path) -> None:
    write_shop(tmp_path)
    port = shop.redis_url.rpartition(":")[2].partition("/")[0]
    run_page(page, tmp_path, shop.stack.env, replaced={"6379": port, "8900": page_port(), "8000": page_port()})


def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    """It starts its own workers."""
    with World(tmp_path / "world", endpoints=ENDPOINTS) as world:
        prepare(world, tmp_path)
        port = world.redis_url.rpartition(":")[2].partition("/")[0]
        write_shop(tmp_path / "reader")
        run_page(README, tmp_path / "reader", world.stack.env, replaced=REPLACED | {"6379": port})


def test_no_page_is_left_out() -> None:
    assert THE_SHOP in RUN_HERE
    others = "".join(test.read_text() for test in ROOT.glob("tests/**/test_*.py") if test != Path(__file__))
    for page in RUN_ELSEWHERE & set(pages()):
        assert page in others or Path(page).name in others, page


def test_every_fence_of_a_page_has_a_language_that_is_run_or_is_no_command() -> None:
    known = {"python", "sh", "text", "toml", "ini", "html", "js", "nginx", "mermaid", "json", "yaml", ""}
    assert [
        (one.page, one.line, one.language) for page in pages() for one in blocks(page) if one.language not in known
    ] == []
    # What an editor would show as a command must be one.
    commands = re.compile(r"^(?:\$ |pip install|celery-runpod )", re.MULTILINE)
    here = set(pages()) - RUN_ELSEWHERE
    plain = [one for page in here for one in blocks(page) if one.language in ("", "ini", "toml")]
    assert [(one.page, one.line) for one in plain if commands.search(one.text)] == []
