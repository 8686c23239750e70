"""Public is what is documented: `__all__`, docs/reference.md and what can be imported are the same names."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from celery import Celery

import celery_runpod
from celery_runpod.api import Policy, RunPodClient
from celery_runpod.results import JobResult

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = re.split(r"^## `([\w.]+)`$", (ROOT / "docs" / "reference.md").read_text(), flags=re.MULTILINE)[1:]
DOCUMENTED = {
    module: set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    for module, text in zip(SECTIONS[::2], SECTIONS[1::2], strict=True)
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "celery_runpod").rglob("*.py"))
    if not any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts)
}
"""Every module that can be imported without an underscore in its path."""


def exported(module: str) -> set[str]:
    """The names in `__all__`, without importing: Django's modules need its settings."""
    for node in ast.parse(FILES[module].read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def defined(module: str) -> set[str]:
    """The names without an underscore that a module itself defines."""
    names = set()
    for node in ast.parse(FILES[module].read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_every_public_module_is_in_the_reference() -> None:
    assert set(DOCUMENTED) == set(FILES)


def test_the_reference_lists_what_is_exported() -> None:
    assert {module: exported(module) for module in FILES} == DOCUMENTED


def test_what_a_public_module_defines_is_exported_or_begins_with_an_underscore() -> None:
    assert {module: defined(module) - exported(module) for module in FILES if defined(module) - exported(module)} == {}


@pytest.mark.parametrize("module", [name for name in FILES if ".django" not in name])
def test_every_name_can_be_imported(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in DOCUMENTED[module] if not hasattr(found, name)] == []


def test_no_public_duration_names_its_unit() -> None:
    public = [getattr(celery_runpod, name) for name in celery_runpod.__all__] + [RunPodClient, Policy]
    wrong = []
    for one in public:
        if isinstance(one, ModuleType) or one is celery_runpod.Backoff:
            continue  # the fields of a backoff are keys of a mapping, in calls and profiles
        methods = [method for name, method in inspect.getmembers(one, callable) if not name.startswith("_")]
        for function in (one, *(methods if inspect.isclass(one) else ())):
            try:
                parameters = inspect.signature(function).parameters
            except ValueError:
                continue
            wrong += [f"{function.__qualname__}({name})" for name in parameters if name.endswith(("_s", "_ms"))]
    assert wrong == []


def test_a_duration_may_be_a_timedelta() -> None:
    policy = Policy(execution_timeout=timedelta(minutes=15), ttl=timedelta(days=1))
    assert policy.to_json() == {"executionTimeout": 900_000, "ttl": 86_400_000}
    assert RunPodClient("k", read_timeout=timedelta(seconds=3))._http._read_timeout_s == 3


def test_revoke_says_what_it_ignores(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[str] = []
    monkeypatch.setattr(JobResult, "cancel", lambda self: cancelled.append(self.id))
    job = JobResult("t1", app=Celery("unit", backend="cache+memory://", set_as_current=False))
    job.revoke(terminate=True)
    with pytest.warns(UserWarning, match="ignores signal, wait"):
        job.revoke(terminate=True, signal="SIGKILL", wait=True)
    assert cancelled == ["t1", "t1"]
