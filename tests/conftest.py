"""For every test: what is compiled is kept, also where the shell forbids bytecode beside the sources.

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
