"""The blocks of the pages of the docs, and how a test has a reader run them (``page_driver.py``)."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from celery_runpod._devstack.process_guard import Guard, kill_group
from celery_runpod._devstack.stack import listens
from tests.servers import ROOT

DRIVER = Path(__file__).with_name("page_driver.py")
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
RUN = ("python", "sh", "text")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is (`title="shop/tasks.py"`), its text, and where it stands."""

    page: str
    line: int
    language: str
    title: str
    text: str


def pages() -> list[str]:
    """Every page, by its path from the root of the repository."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(str(page.relative_to(ROOT)) for page in found)


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    text, found = (ROOT / page).read_text(), []
    for fence in FENCE.finditer(text):
        info, indent = fence["info"], fence["indent"]
        title = re.search(r'title="([^"]+)"', info)
        body = re.sub(f"^{indent}", "", fence["text"], flags=re.MULTILINE)
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, info.split(" ")[0], title[1] if title else "", body))
    return found


def run_page(
    page: str,
    folder: Path,
    env: Mapping[str, str],
    *,
    python: str | Path = sys.executable,
    replaced: Mapping[str, str] | None = None,
    within_s: float = 240.0,
) -> str:
    """Run a page in a folder, with these variables alone; `replaced` are texts that a test must change, as ports. Returns
    what the driver has written; fails with it."""
    steps = []
    for block in blocks(page):
        if block.language in RUN or block.title:
            step = asdict(block)
            for old, new in (replaced or {}).items():
                step["text"] = step["text"].replace(old, new)
            steps.append(step)
    folder.mkdir(parents=True, exist_ok=True)
    # If this process is killed, the servers of the page end too.
    guard = Guard()
    driver = subprocess.Popen(
        [str(python), str(DRIVER)],
        cwd=folder,
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=guard.watch(),
        text=True,
    )
    try:
        written, _ = driver.communicate(json.dumps(steps), timeout=within_s)
    except subprocess.TimeoutExpired:
        driver.terminate()
        written, _ = driver.communicate(timeout=60)
        raise AssertionError(f"{page} did not end within {within_s:g} s:\n{written}") from None
    finally:
        kill_group(driver.pid)
        guard.close()
    assert driver.returncode == 0, written
    return written


def plain_environment() -> dict[str, str]:
    """The variables of this process that a reader has too."""
    return {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "PATH", "TMPDIR")}


def page_port() -> str:
    """A port in the place of one that a page names. It is used some seconds later, so it is none of those that the system
    gives to other tests meanwhile (from 32768 on)."""
    return str(next(port for port in random.sample(range(20_000, 30_000), 1000) if not listens(port)))
