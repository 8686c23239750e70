"""`demo` and `dev` as a user starts them: the picture is there, and no process is left, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from celery_runpod._demo.application import COLUMNS, PICTURE, ROWS
from celery_runpod._devstack.stack import cli
from tests.waiting import eventually

LONGEST_S = 240
SIGN = "DEMO_TEST_SIGN"


@pytest.fixture
def sign() -> Iterator[str]:
    """A variable's value that every process of one test inherits; at the end none may be alive."""
    value = f"{os.getpid()}-{time.monotonic_ns()}"
    yield value
    left: list[str] = []
    try:
        eventually(lambda: [f"{one.pid} {one.cmdline()}" for one in alive(value)], left)
    finally:
        for process in alive(value):
            process.kill()


def alive(value: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(SIGN) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def start(sign: str, folder: Path, *command: str) -> subprocess.Popen[str]:
    # A real key and a real Redis around it: the demo must use neither.
    env = {
        **os.environ,
        SIGN: sign,
        "PYTHONUNBUFFERED": "1",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "RUNPOD_NAMESPACE": "theirs",
    }
    return subprocess.Popen(
        cli(*command), cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def lines_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """What it has printed, up to the first line with these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"it ended without {words!r}: {''.join(lines)}")


def test_demo_leaves_a_picture_and_no_process(sign: str, tmp_path: Path) -> None:
    process = start(sign, tmp_path, "demo")
    output, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, output
    path = tmp_path / "demo-output" / "picture.png"
    assert f"the picture lies at {path}" in output
    assert "Traceback" not in output
    with Image.open(path) as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", PICTURE)
        colours = picture.convert("RGB").getcolors(PICTURE[0] * PICTURE[1])
    assert colours is not None and len(colours) > 1000
    assert [entry.name for entry in path.parent.iterdir()] == ["picture.png"]
    for number in range(1, COLUMNS * ROWS + 1):
        assert f"tile {number:2}  COMPLETED" in output


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["starting the RunPod worker", "sent: chord"])
def test_demo_stops_everything_when_it_is_interrupted(
    sign: str, tmp_path: Path, signum: signal.Signals, moment: str
) -> None:
    process = start(sign, tmp_path, "demo", "--output", "here.png")
    lines_until(process, moment)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 128 + signum, output
    assert "everything is stopped" in output
    assert not list(tmp_path.glob("*.png"))


def test_demo_stops_everything_when_a_server_dies(sign: str, tmp_path: Path) -> None:
    process = start(sign, tmp_path, "demo")
    lines_until(process, "sent: chord")
    (server,) = [one for one in psutil.Process(process.pid).children() if "simulator" in one.cmdline()]
    server.kill()
    output, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 1, output
    assert "simulator-0 ended with status -9" in output
    assert "Traceback" not in output


def test_demo_leaves_no_process_when_it_is_killed(sign: str, tmp_path: Path) -> None:
    process = start(sign, tmp_path, "demo")
    lines_until(process, "sent: chord")
    process.kill()
    process.communicate(timeout=LONGEST_S)


def test_dev_prints_addresses_that_work_until_ctrl_c(sign: str, tmp_path: Path) -> None:
    process = start(sign, tmp_path, "dev", "--endpoint", "echo=synthetic:duration=0.1")
    lines = lines_until(process, "Ctrl-C stops everything")
    exported = dict(line.split()[1].split("=", 1) for line in lines if line.startswith("export "))
    assert set(exported) == {"REDIS_URL", "RUNPOD_BASE_URL", "RUNPOD_REST_URL", "RUNPOD_API_KEY"}
    env = {**os.environ, **exported, SIGN: sign}
    ran = subprocess.run(
        cli("run", "echo", "--input", '{"a": 1}'),
        env=env,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert (ran.returncode, ran.stdout.split()) == (0, ["{", '"a":', "1", "}"]), ran.stderr
    healthy = subprocess.run(
        cli("doctor"),
        env={**env, "RUNPOD_ENDPOINT_ECHO": "echo"},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert healthy.returncode == 0, healthy.stdout
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, output


def test_the_handler_renders_a_tile() -> None:
    """In a process of its own: importing RunPod's SDK is no business of the other tests."""
    code = (
        "from celery_runpod._demo import handler as h; h.runpod.serverless.progress_update = lambda *a: None; "
        "t = h.handler({'id': 'x', 'input': {'left': 5, 'top': 6, 'size': [8, 4], 'picture': [80, 40]}}); "
        "import base64, io; from PIL import Image; "
        "assert Image.open(io.BytesIO(base64.b64decode(t['png']))).size == (8, 4); "
        "assert (t['left'], t['top']) == (5, 6)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LONGEST_S)
