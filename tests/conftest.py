"""For every test: what is compiled is kept, and files that wait are mixed with files that compute.

A worker, a simulator or a command that compiles all that it imports takes 2 to 4 s of a processor before it does
anything, and the tests start hundreds of them. Where PYTHONDONTWRITEBYTECODE is set, as in most containers, they share
a folder of their own for bytecode; elsewhere Python's own is used.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Before xdist starts its workers, which inherit the variables."""
    if not os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        return
    folder = config.rootpath / ".pytest_cache" / "bytecode"
    # Sources that an earlier run wrote for itself never come back under the same path.
    shutil.rmtree(folder / Path(tempfile.gettempdir()).relative_to("/"), ignore_errors=True)
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(folder))
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"]


LONGEST = (
    *("test_rabbitmq_in_trouble", "test_redis_trouble", "test_kills", "test_demo", "test_mixed"),
    *("test_mixed_with_webhooks", "test_kills_of_whole_workers", "test_restored_store", "test_unanswered_submits"),
    *("test_poison", "test_outages", "test_django", "test_rabbitmq", "test_api_trouble", "test_brake", "test_calls"),
    *("test_records", "test_tutorials"),
)
"""Modules with servers that take about a minute or more: they begin first, so that none of them is the last one."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files of `tests/unit`, which take a processor, evenly among the others, which wait for servers. xdist
    hands out whole files in this order."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)

    def computes(file: Path) -> bool:
        return "unit" in file.parts

    waiting = sorted(
        (file for file in files if not computes(file)),
        key=lambda file: LONGEST.index(file.stem) if file.stem in LONGEST else len(LONGEST),
    )
    computing = [file for file in files if computes(file)]
    place = {file: (number + 0.5) / len(some) for some in (waiting, computing) for number, file in enumerate(some)}
    items[:] = [item for file in sorted(files, key=place.__getitem__) for item in files[file]]
