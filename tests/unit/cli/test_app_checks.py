"""`doctor --app`: a project's Celery app, imported in a process of its own, against the worker's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celery_runpod._cli.doctor.app_checks import check_app, judge
from celery_runpod._cli.doctor.findings import Finding, Level

URL = "redis://127.0.0.1:6379/0"
SAME: dict[str, Any] = {
    "broker": URL,
    "backend": "redis://localhost",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "task_protocol": 2,
    "result_expires": 86_400.0,
    "result_chord_ordered": True,
    "broker_keyprefix": "",
    "backend_keyprefix": "",
    "priority_steps": [0, 3, 6, 9],
    "sep": "\x06\x16",
    "imports_client": True,
}


def judged(**other: Any) -> list[Finding]:
    return judge("app", {**SAME, **other}, broker=URL, backend=URL, result_expires_s=86_400.0)


def test_an_app_that_agrees() -> None:
    assert {one.level for one in judged()} == {Level.OK}


@pytest.mark.parametrize(
    ("other", "level", "words"),
    [
        ({"broker": "redis://127.0.0.1:6379/1"}, Level.WRONG, "its broker is redis://127.0.0.1:6379/1"),
        ({"broker": "amqp://me:secret@host//"}, Level.WRONG, "its broker is amqp://me:***@host//"),
        ({"backend": "django-db"}, Level.WRONG, "its result backend is django-db"),
        ({"backend": None}, Level.WRONG, "its result backend is not set"),
        ({"accept_content": ["pickle"]}, Level.WRONG, "accept_content is pickle"),
        ({"result_accept_content": ["pickle"]}, Level.WRONG, "result_accept_content is pickle"),
        ({"result_serializer": "pickle"}, Level.WRONG, "result_serializer"),
        ({"task_serializer": "pickle"}, Level.WARNING, "task_serializer"),
        ({"task_protocol": 1}, Level.WRONG, "task_protocol"),
        ({"result_expires": 3600.0}, Level.WRONG, "result_expires is 3600 s"),
        ({"result_expires": 90_000.0}, Level.WARNING, "expire after 90000 s"),
        ({"result_expires": None}, Level.WARNING, "expire never"),
        ({"broker_keyprefix": "shop:"}, Level.WRONG, "broker_transport_options has global_keyprefix 'shop:'"),
        ({"backend_keyprefix": "shop:"}, Level.WRONG, "result_backend_transport_options has global_keyprefix"),
        ({"result_chord_ordered": False}, Level.WRONG, "result_chord_ordered"),
        ({"priority_steps": [0, 1, 2]}, Level.WRONG, "priority_steps"),
        ({"imports_client": False}, Level.WARNING, "does not import celery_runpod"),
    ],
)
def test_an_app_that_does_not(other: dict[str, Any], level: Level, words: str) -> None:
    found = [one for one in judged(**other) if one.level is not Level.OK]
    assert [one.level for one in found] == [level]
    assert words in found[0].found
    assert found[0].advice


def test_an_app_is_imported_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tasks"  # as a project's own often is called, and the worker's is
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "app.py").write_text(
        "import celery, celery_runpod\n"
        "print('imported')\n"
        f"app = celery.Celery('shop', broker={URL!r}, backend={URL!r})\n"
        "app.conf.result_expires = 3600\n"
    )
    monkeypatch.chdir(tmp_path)
    found = check_app("tasks.app:app", broker=URL, backend=URL, result_expires_s=86_400.0)
    assert [(one.level, one.found) for one in found if one.level is not Level.OK] == [
        (Level.WRONG, "result_expires is 3600 s, but a job may take 21600 s")
    ]


def test_an_app_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = check_app("nowhere.celery:app", broker=URL, backend=URL, result_expires_s=86_400.0)
    assert found.level is Level.WRONG
    assert "nowhere" in found.found
