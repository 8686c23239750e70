"""How commands read fields, and print rows: lines with tabs, JSON, a table on a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest

from celery_runpod._cli.output import ask_first, fields_from, print_one, print_rows, read_json
from celery_runpod._cli.pod_commands import COLUMNS
from celery_runpod.api import Pod

POD = Pod("p1", "train", "RUNNING", gpu="NVIDIA L4", gpu_count=2, usd_per_hour=0.39, env={"TOKEN": "secret-of-a-user"})


def test_fields_go_over_each_other_in_order(tmp_path: Path) -> None:
    file = tmp_path / "pod.json"
    file.write_text('{"image": "a", "gpu": "NVIDIA L4", "env": {"A": "1", "B": "2"}}')
    settings = ["start_ssh=true", "disk_gb=30", "args=python train.py", "image=b"]
    named = {"image": "c", "name": None, "ports": (), "data_centers": ("US-KS-2",)}
    assert fields_from(f"@{file}", settings, ["B=3", "URL=https://x.test/?a=b"], named) == {
        "image": "c",
        "gpu": "NVIDIA L4",
        "start_ssh": True,
        "disk_gb": 30,
        "args": "python train.py",
        "data_centers": ["US-KS-2"],
        "env": {"A": "1", "B": "3", "URL": "https://x.test/?a=b"},
    }


@pytest.mark.parametrize(
    ("spec", "settings", "env", "option"),
    [
        ("[1]", [], [], "--spec"),
        ("{", [], [], "--spec"),
        ("@nowhere.json", [], [], "--spec"),
        (None, ["disk_gb"], [], "--set"),
        (None, [], ["TOKEN secret-of-a-user"], "--env"),
        (None, ["env=abc"], ["A=1"], "--env"),
        ('{"env": ["A=1"]}', [], ["B=2"], "--env"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_option(
    spec: str | None, settings: list[str], env: list[str], option: str
) -> None:
    with pytest.raises(click.BadParameter) as caught:
        fields_from(spec, settings, env, {})
    assert caught.value.param_hint == option


def test_json_from_text_and_file(tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text("[1]")
    assert (read_json("2", "--input"), read_json(f"@{file}", "--input")) == (2, [1])


def test_rows_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([POD], COLUMNS, as_json=False, none="no pod")
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [
        ["id", "name", "status", "on", "$/h", "where", "image"],
        ["p1", "train", "RUNNING", "2 x NVIDIA L4", "0.39", "-", "-"],
    ]
    print_rows([POD], COLUMNS, as_json=True, none="no pod")
    text = capsys.readouterr().out
    assert json.loads(text)[0]["gpu_count"] == 2
    assert "secret-of-a-user" not in text
    print_rows([], COLUMNS, as_json=True, none="no pod")
    assert capsys.readouterr().out == "[]\n"


def test_a_table_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    print_rows([POD], COLUMNS, as_json=False, none="no pod")
    shown = capsys.readouterr().out
    assert "┃" in shown and "\t" not in shown
    print_one(POD, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("usd_per_hour") and line.endswith("0.39") for line in lines)
    assert not any("TOKEN" in line for line in lines)


@pytest.mark.parametrize("name", ["sdxl [/x]", "[step 1/10]", ":smile:"])
def test_names_that_look_like_markup_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    print_rows([Pod("p1", name, "RUNNING")], COLUMNS, as_json=False, none="no pod")
    assert f" {name} " in capsys.readouterr().out


def test_without_anybody_to_agree_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_first("Really?", yes=True)
    monkeypatch.setattr(click, "confirm", lambda *_, **__: (_ for _ in ()).throw(click.Abort()))
    with pytest.raises(click.Abort):
        ask_first("Really?", yes=False)
