"""What the package promises of itself: its parts, its size, and what it imports."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import celery_runpod.api
from celery_runpod import api

FOLDER = Path(celery_runpod.api.__path__[0])
SOURCES = sorted(FOLDER.glob("*.py"))


def test_the_docstring_names_every_module() -> None:
    drawn = re.findall(r"^    (\w+\.py) ", api.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == [source.name for source in SOURCES if source.name != "__init__.py"]


def test_each_module_says_why_it_exists() -> None:
    for source in SOURCES:
        assert ast.get_docstring(ast.parse(source.read_text())), source.name


def test_all_is_what_can_be_seen() -> None:
    assert set(api.__all__) <= set(dir(api))


def test_only_requests_the_standard_library_and_our_errors_are_imported() -> None:
    allowed = {"requests", "urllib3", *sys.stdlib_module_names}
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                ours = f"{name}.".startswith("celery_runpod.api.") or name == "celery_runpod.errors"
                assert ours or name.partition(".")[0] in allowed, f"{source.name} imports {name}"
