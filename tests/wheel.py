"""An environment as a user has it: the wheel, and the checkout nowhere on its path."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import celery
from hatchling.builders.wheel import WheelBuilder

from tests.servers import ROOT


def python_with_the_wheel(folder: Path) -> Path:
    """The interpreter of a fresh environment with the wheel in it."""
    wheel = Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    # The dependencies; a folder that comes in by a .pth file has its own .pth files (the checkout's) left alone.
    (site / "dependencies.pth").write_text(f"{Path(celery.__file__).resolve().parent.parent}\n")
    return folder / "venv" / "bin" / "python"


def run(python: Path, folder: Path, *arguments: str, status: int = 0, within_s: float = 240.0) -> str:
    """Run a command of a user's project in its folder, without settings of this process; returns what it wrote."""
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "PATH", "TMPDIR")}
    done = subprocess.run(
        [str(python), *arguments], cwd=folder, env=kept, capture_output=True, text=True, timeout=within_s
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr
