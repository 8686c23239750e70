"""`dev` as a user starts it: its addresses work, and no process is left, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from celery_runpod._devstack.stack import cli
from tests.signed_processes import LONGEST_S, SIGN, lines_until, start


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


def test_a_stack_leaves_no_process_when_its_command_is_killed(sign: str, tmp_path: Path) -> None:
    process = start(sign, tmp_path, "dev", "--endpoint", "echo=synthetic:duration=0.1")
    # Redis, the simulator and the worker are up by then.
    lines_until(process, "starting Flower")
    process.kill()
    process.communicate(timeout=LONGEST_S)
