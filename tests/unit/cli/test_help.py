"""`celery-runpod --help` where an extra is missing: it lists every command all the same."""

from __future__ import annotations

import sys

import pytest

from celery_runpod._cli.main import COMMANDS, main


def _help(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_every_command_is_listed_without_any_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("celery_runpod._cli.")]:
        if module != "celery_runpod._cli.main":
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    out = _help(capsys)
    assert all(f"\n  {command} " in out for command in COMMANDS)
    assert "needs pip install 'celery-runpod[worker]'" in out


def test_it_says_what_each_command_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    out = _help(capsys)
    assert "pip install" not in out
    assert "List the open jobs" in out and "Watch jobs and workers in a browser" in out
