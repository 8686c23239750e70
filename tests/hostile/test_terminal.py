"""Control characters of a handler reach neither a terminal nor a log: nobody's clipboard, screen or log is theirs."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest

from celery_runpod._devstack.stack import cli
from celery_runpod.errors import JobFailed
from celery_runpod.results import JobResult
from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import WAIT_S, command, no_harm, typed, worker_logs
from tests.servers import World
from tests.waiting import eventually

FORGED = "2026-01-01T00:00:00Z [info     ] job.ended  job_id=forged state=COMPLETED"
TEXT = f"boom\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b]0;title\x07\x9b31m\x85\r\n{FORGED}\x00\x08\x7f"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SEQUENCES = ("\x1b]52", "\x1b[2J", "\x1b]0;", "\x9b", "\x85", "\x07", "\x00", "\x7f")
"""What of the text a terminal would obey; rich's own colours are none of it."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    endpoints = ("fast=synthetic:duration=0.3", "escapes=tests/hostile/handlers/escapes.py")
    with servers_of(tmp_path_factory.mktemp("terminal"), endpoints=endpoints, prepare=start_workers) as world:
        yield world


@pytest.fixture
def failed(world: World) -> JobResult:
    result = world.endpoint("escapes").delay(text=TEXT, seconds=0)
    typed(world, result.id, JobFailed)
    return result


def clean(text: str) -> None:
    assert not CONTROL.search(text), repr(CONTROL.findall(text)[:10])
    assert not [line for line in text.splitlines() if line.startswith(FORGED[:20])], text[-2000:]


def in_a_terminal(world: World, *arguments: str, for_s: float = WAIT_S) -> str:
    """What a command writes to a terminal of its own, until it ends."""
    ours, theirs = pty.openpty()
    env = {**world.stack.env, "TERM": "xterm-256color", "COLUMNS": "200"}
    process = subprocess.Popen(cli(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    os.set_blocking(ours, False)
    written, give_up = b"", time.monotonic() + for_s
    try:
        while time.monotonic() < give_up:
            try:
                some = os.read(ours, 65_536)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            except OSError:  # Linux: nobody has the other end open any more
                break
            if not some:
                break
            written += some
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)
        os.close(ours)
    return written.decode(errors="replace")


def test_the_caller_gets_the_error_as_it_is(failed: JobResult) -> None:
    assert "\x1b]52" in str(failed.error)


def test_a_workers_log_holds_no_control_character_and_no_line_of_the_handlers(world: World, failed: JobResult) -> None:
    with no_harm(world):
        pass
    clean(worker_logs(world))


@pytest.mark.parametrize("name", ["show", "watch"])
def test_commands_for_a_job_that_failed(world: World, failed: JobResult, name: str) -> None:
    answer = command(world, name, failed.id)
    clean(answer.stdout)
    clean(answer.stderr)
    shown = in_a_terminal(world, name, failed.id)
    assert not [one for one in SEQUENCES if one in shown], repr(shown[-1000:])


def test_commands_for_a_job_with_progress(world: World) -> None:
    result = world.endpoint("escapes").delay(text=TEXT, seconds=120, mark=uuid.uuid4().hex)
    eventually(lambda: bool(result.progress), True, within_s=WAIT_S)
    try:
        for arguments in (("show", result.id), ("jobs",), ("jobs", "--json"), ("show", result.id, "--json")):
            answer = command(world, *arguments)
            assert answer.returncode == 0, answer.stderr
            clean(answer.stdout)
            clean(answer.stderr)
        shown = in_a_terminal(world, "jobs") + in_a_terminal(world, "show", result.id)
        shown += in_a_terminal(world, "watch", result.id, for_s=4)
        assert not [one for one in SEQUENCES if one in shown], repr(shown[-1000:])
    finally:
        result.cancel()
    eventually(lambda: result.state, "REVOKED", within_s=WAIT_S)


def test_a_name_of_an_endpoint_is_no_way_in(world: World) -> None:
    from celery_runpod.errors import RunPodError

    with no_harm(world):
        app = world.app()
        result = app.send_task("runpod.run", args=[{}], kwargs={"endpoint": TEXT}, queue="runpod")
        typed(world, result.id, RunPodError)
        result = app.send_task("runpod.run", args=[{}], kwargs={"endpoint": "fast", TEXT: 1}, queue="runpod")
        typed(world, result.id, RunPodError)
    clean(worker_logs(world))
