"""The drawing of the rooms says what the imports say, and no two rooms import each other."""

from __future__ import annotations

import ast
import re

from tests.unit.test_repository import MODULES, ROOT

ROOMS = {
    "celery_runpod.api": "api",
    "celery_runpod._cli": "cli",
    "celery_runpod._simulator": "simulator",
    "celery_runpod._devstack": "devstack",
    "celery_runpod._demo": "demo",
    **dict.fromkeys((f"celery_runpod.{name}" for name in ("django", "flask", "_webhooks")), "web"),
    **dict.fromkeys(
        (f"celery_runpod.{name}" for name in ("_protocol", "_call_rules", "_plain_json", "options", "_escaping")),
        "protocol",
    ),
    "celery_runpod._private_names": "protocol",
    **dict.fromkeys(
        (f"celery_runpod.{name}" for name in ("_connect", "_cluster", "_redis_urls", "_stand_ins", "_worker_mark")),
        "connect",
    ),
    **dict.fromkeys(("celery_runpod.testing", "celery_runpod._testing"), "testing"),
    **dict.fromkeys(("celery_runpod.files", "celery_runpod._files"), "files"),
    "celery_runpod._publish": "publish",
    "celery_runpod.errors": "errors",
    "celery_runpod": "client",
    "celery_app.overrides": "overrides",
    "celery_app.watchdog": "watchdog",
    "celery_app": "app",
    "celery_runpod._live": "live",
    "celery_runpod._store": "store",
    "tasks": "tasks",
    "config": "config",
}
"""The longest name that a module begins with is its room's."""


def room(module: str) -> str | None:
    known = [name for name in ROOMS if module == name or module.startswith(f"{name}.")]
    return ROOMS[max(known, key=len)] if known else None


def imports() -> set[tuple[str, str]]:
    found = set()
    for path in MODULES:
        importer = room(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            found |= {(importer, imported) for name in names if (imported := room(name)) not in (None, importer)}
    return {(one, other) for one, other in found if other != "errors"}


def test_the_drawing_of_the_rooms_is_what_the_imports_say() -> None:
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE))
    assert drawn == imports()


def test_no_two_rooms_import_each_other() -> None:
    found = imports()
    while leaves := {one for edge in found for one in edge} - {one for one, _ in found}:
        found = {(one, other) for one, other in found if other not in leaves}
    assert found == set(), "rooms in a circle"
