"""docs/guarantees.md names tests that exist; the pages name every setting, reason, command and task."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from pathlib import Path

from celery_runpod._protocol import CONTROL
from celery_runpod.api._operations import MANAGEMENT
from config.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_named_in_the_guarantees_exists_once() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/guarantees.md").read_text()))
    written = Counter(
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    )
    assert named
    # One of two tests with the same name could go unnoticed.
    assert {name: written[name] for name in named if written[name] != 1} == {}


def test_every_row_of_the_guarantees_names_a_test() -> None:
    table = (ROOT / "docs/guarantees.md").read_text().partition("| promise | held by |\n|---|---|\n")[2]
    rows = table.partition("\n\n")[0].splitlines()
    assert rows
    assert [row for row in rows if not re.search(r"\| [^|]*`test_\w+`[^|]*\|$", row)] == []


WITHOUT_SERVERS = {"test_driver.py", "test_submits.py"}


def test_every_chaos_test_ends_with_an_empty_store() -> None:
    """By itself, by a fixture or a function of its module that it uses, or by the judge."""
    paths = [path for path in (ROOT / "tests/chaos").glob("test_*.py") if path.name not in WITHOUT_SERVERS]
    assert paths
    assert [f"{path.name}: {name}" for path in paths for name in _without_look(ast.parse(path.read_text()))] == []


def _without_look(module: ast.Module) -> list[str]:
    functions = {one.name: one for one in module.body if isinstance(one, ast.FunctionDef)}
    looks = {
        name for name, one in functions.items() if "open_jobs" in ast.unparse(one) or "verdict" in ast.unparse(one)
    }
    always = {name for name in looks if "autouse=True" in ast.unparse(functions[name])}
    missing = []
    for name, one in functions.items():
        used = {part.id for part in ast.walk(one) if isinstance(part, ast.Name)} | {arg.arg for arg in one.args.args}
        if name.startswith("test_") and not (always or name in looks or used & looks):
            missing.append(name)
    return missing


def test_every_setting_is_in_the_page_of_settings() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        for name in [alias] if isinstance(alias, str) else list(getattr(alias, "choices", ())):
            assert f"`{name}`" in page, name


def test_every_reason_of_the_workers_is_known_to_the_commands_and_in_the_docs() -> None:
    from celery_runpod._live.job_rows import REASONS
    from celery_runpod._store.states import State
    from celery_runpod.results import JobResult

    no_reasons = {*State, "RUNPOD_DIE_AT", "LIMIT", "WITHSCORES", "COUNT", "MAXLEN", "SUCCESS", "FAILURE", "REVOKED"}
    words: set[str] = {"NO_WORKER", "EARLIER_STEP"}  # a reader finds these out
    for path in [*(ROOT / "tasks").rglob("*.*"), *(ROOT / "celery_runpod" / "_store").rglob("*.lua")]:
        if path.suffix == ".py" and path.name != "management.py":  # the states of a pod
            constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
            words |= {one for one in constants if isinstance(one, str) and re.fullmatch(r"[A-Z][A-Z_]{3,}", one)}
        elif path.suffix == ".lua":
            words |= set(re.findall(r"(?<!call\()'([A-Z][A-Z_]{3,})'", path.read_text()))
    assert words - no_reasons == set(REASONS)
    described = (ROOT / "docs/reasons.md").read_text().partition("|---|---|")[2]
    assert set(re.findall(r"^\| ([A-Z_]+) \|", described, re.MULTILINE)) == set(REASONS)
    assert set(re.findall(r"\b[A-Z_]{5,}\b", JobResult.reason.__doc__ or "")) == set(REASONS)


def test_the_table_of_keys_is_complete() -> None:
    from celery_runpod._store.keys import Keys

    keys = Keys("n")
    made = set()
    for name, method in inspect.getmembers(Keys, inspect.isfunction):
        if not name.startswith("_") and name != "celery_result":  # Celery's own
            count = len(inspect.signature(method).parameters) - 1
            endpoint = "endpoint" in inspect.signature(method).parameters
            made.add(getattr(keys, name)(*(["e"] + ["<>"] * (count - 1) if endpoint else ["<>"] * count)))
    table = (ROOT / "docs/path-of-a-job.md").read_text().partition("| key | holds |\n|---|---|\n")[2]
    first = [row.split(" | ")[0] for row in table.partition("\n\n")[0].splitlines()]
    described = {re.sub("<[^>]*>", "<>", one) for cell in first for one in re.findall("`([^`]+)`", cell)}
    assert described == made


def test_every_command_is_in_the_docs() -> None:
    from celery_runpod._cli.main import COMMANDS

    page = (ROOT / "docs/commands.md").read_text()
    for command in COMMANDS:
        assert f"## `celery-runpod {command}`\n" in page


def test_every_task_that_is_asked_is_in_the_table_of_operations() -> None:
    table = (ROOT / "docs/operations.md").read_text()
    for name in (*CONTROL, *MANAGEMENT):
        group, _, word = name.rpartition(".")
        (row,) = [line for line in table.splitlines() if f"`{name}`" in line] or [
            line for line in table.splitlines() if f"`{group}.list`" in line
        ]
        assert f"`{name}`" in row or f"`{word}`" in row, name
