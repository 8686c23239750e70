"""What must hold for every file of the repository."""

from __future__ import annotations

import ast
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("celery_runpod", "celery_app", "tasks", "config")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PATH_OF_A_JOB = [
    "celery_runpod/endpoint.py",
    "celery_runpod/contract.py",
    "tasks/run.py",
    "tasks/parking.py",
    "tasks/submit.py",
    "tasks/check.py",
    "tasks/backoff.py",
    "tasks/delivery.py",
]


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_why_it_exists_and_is_short(module: Path) -> None:
    text = module.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 300


def test_the_path_of_a_job_is_eight_files_and_1600_lines() -> None:
    for number, name in enumerate(PATH_OF_A_JOB, start=1):
        assert (ast.get_docstring(ast.parse((ROOT / name).read_text())) or "").startswith(f"[{number} of 8]")
    assert sum(len((ROOT / name).read_text().splitlines()) for name in PATH_OF_A_JOB) <= 1600
    described = (ROOT / "docs/path-of-a-job.md").read_text()
    assert all(name in described for name in PATH_OF_A_JOB)


def test_no_file_names_a_machine() -> None:
    hosts = re.compile("|".join(["python" + "hosted", "registry" + r"\.npmjs", "deb" + r"\.debian", "/root" + "/"]))
    machine = re.compile(r"(?<![\w.])/(?:work|home/[a-z]+|Users/[a-z]+)/")
    allowed = {ROOT / "Dockerfile"}
    for path in _tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        assert not hosts.search(text), path
        assert path in allowed or not machine.search(text), path


def test_the_wheel_brings_no_top_level_package_but_one(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    wheel = next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert top == {"celery_runpod", next(name for name in top if name.endswith(".dist-info"))}
    for package in ("celery_app", "tasks", "config"):
        assert f"celery_runpod/_service/{package}/__init__.py" in names
    scripts = {path.name for path in (ROOT / "tasks/store/scripts").glob("*.lua")}
    assert scripts == {Path(name).name for name in names if name.endswith(".lua")}
    assert "celery_runpod/py.typed" in names
