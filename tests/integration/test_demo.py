"""`demo` as a user starts it: the picture is there, and no process is left, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from celery_runpod._demo.application import COLUMNS, PICTURE, ROWS
from tests.signed_processes import LONGEST_S, lines_until, start


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


@pytest.mark.parametrize(
    ("signum", "moment"), [(signal.SIGINT, "sent: chord"), (signal.SIGTERM, "starting the RunPod worker")]
)
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
