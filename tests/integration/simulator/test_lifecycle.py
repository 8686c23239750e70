"""Start and end: the ready line, signals, a taken port, mistakes on the command line, no process left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.integration.simulator.serving import HANDLERS, START, Client, simulator
from tests.waiting import eventually


def everyone(client: Client) -> list[psutil.Process]:
    """Every process that the simulator started, and those that they started."""
    return psutil.Process(client.process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[str]:
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_simulator(how: signal.Signals) -> None:
    with simulator("--endpoint", f"fail={HANDLERS}/fail.py,workers=2") as client:
        client.runsync("fail", {})
        job_id = client.run("fail", {"how": "hang"})
        eventually(lambda: client.state("fail", job_id), "IN_PROGRESS")
        processes = everyone(client)
        assert len(processes) >= 3, "a worker, its pings and the guard"
        client.process.send_signal(how)
        code = client.process.wait(10)
        assert code == (-9 if how is signal.SIGKILL else 0)
        eventually(lambda: alive(processes), [])


def test_exactly_one_line_on_standard_output() -> None:
    with simulator("--endpoint", f"echo={HANDLERS}/echo.py") as client:
        client.runsync("echo", {"a": 1})
        client.process.send_signal(signal.SIGTERM)
        assert client.process.stdout is not None
        assert client.process.stdout.read() == ""


def attempt(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([*START, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_taken_port_is_one_line() -> None:
    with simulator() as client:
        port = client.address.rsplit(":", 1)[1]
        code, text = attempt("--port", port)
    assert (code, text.count("\n")) == (1, 1)
    assert f"cannot listen on 127.0.0.1:{port}" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--endpoint", "a=synthetic:speed=1"], "endpoint 'a': option 'speed=1' given; allowed: duration=NUMBER"),
        (["--endpoint", "a=nowhere.py"], "there is no handler file 'nowhere.py'"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str) -> None:
    code, text = attempt("--port", "0", *arguments)
    assert (code, text.count("\n"), words in text) == (1, 1, True), text


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('[[fault]]\nkind = "explode"\n', "field 'kind': 'explode' given"),
        ("[[faults]]\n", "faults given; allowed: [[fault]] tables alone"),
        ("[[", "Invalid initial character"),
    ],
)
def test_a_bad_faults_file_is_one_line(tmp_path: Path, toml: str, words: str) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(toml)
    code, text = attempt("--port", "0", "--faults", str(path))
    assert (code, text.count("\n"), words in text) == (1, 1, True), text


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from celery_runpod._cli.main import main

    for name in [name for name in sys.modules if name.startswith(("celery_runpod._simulator", "celery_runpod._cli."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(SystemExit) as ended:
        main(["simulator"])
    assert ended.value.code == 1
    assert "pip install 'celery-runpod[simulator]'" in capsys.readouterr().err
