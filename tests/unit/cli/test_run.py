"""`run`: one job, waited for. The end comes as a worker would store it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner
from redis import Redis

from celery_runpod._cli import follow_job, job_commands
from celery_runpod.errors import JobFailed
from celery_runpod.results import JobResult

Ending = Callable[[Celery, str], None]


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[[Ending], list[str]]:
    """Sets what happens while `run` waits; answers the list of task ids that it waited for."""

    def prepare(end: Ending) -> list[str]:
        waited: list[str] = []
        follow = follow_job.follow

        def watched(job: JobResult, started: float) -> str | None:
            waited.append(job.id)
            monkeypatch.setattr(follow_job, "pause", lambda: end(job.app, job.id))
            return follow(job, started)

        monkeypatch.setattr(job_commands, "follow", watched)
        return waited

    return prepare


def completed(output: Any) -> Ending:
    return lambda app, task_id: app.backend.store_result(task_id, output, "SUCCESS")


def test_run_prints_the_output(runner: CliRunner, redis: Redis, ending: Callable[[Ending], list[str]]) -> None:
    waited = ending(completed({"image": "png"}))
    answer = runner.invoke(job_commands.run, ["sdxl", "--input", '{"prompt": "a cat"}'])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout) == {"image": "png"}
    assert f"task {waited[0]}" in answer.stderr
    assert "NO_WORKER" in answer.stderr


def test_run_takes_its_input_from_a_file(
    runner: CliRunner, redis: Redis, ending: Callable[[Ending], list[str]], tmp_path: Path
) -> None:
    ending(completed([1]))
    file = tmp_path / "input.json"
    file.write_text('{"prompt": "a cat"}')
    answer = runner.invoke(job_commands.run, ["sdxl", "--input", f"@{file}", "--json"])
    found = json.loads(answer.stdout)
    assert (found["state"], found["output"]) == ("SUCCESS", [1])


def test_run_of_a_job_that_fails(runner: CliRunner, redis: Redis, ending: Callable[[Ending], list[str]]) -> None:
    def failed(app: Celery, task_id: str) -> None:
        app.backend.store_result(task_id, JobFailed("out of memory", "sdxl", task_id, "job-1"), "FAILURE")

    ending(failed)
    answer = runner.invoke(job_commands.run, ["sdxl"])
    assert answer.exit_code == 1
    assert "JobFailed: out of memory" in answer.stderr
    answer = runner.invoke(job_commands.run, ["sdxl", "--json"])
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["error"]["type"] == "JobFailed"


@pytest.mark.parametrize("given", ["{", "@nowhere.json"])
def test_run_refuses_what_is_no_json(runner: CliRunner, redis: Redis, given: str) -> None:
    answer = runner.invoke(job_commands.run, ["sdxl", "--input", given])
    assert answer.exit_code == 2
    assert "--input" in answer.stderr


def interrupted(app: Celery, task_id: str) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("said", "notes"), [("y\n", 1), ("n\n", 0), ("", 0)])
def test_ctrl_c_asks_whether_to_cancel(
    runner: CliRunner, redis: Redis, ending: Callable[[Ending], list[str]], said: str, notes: int
) -> None:
    waited = ending(interrupted)
    answer = runner.invoke(job_commands.run, ["sdxl"], input=said)
    assert answer.exit_code == 130
    assert "Cancel the job?" in answer.stderr
    assert redis.exists(f"runpod:cancel:{waited[0]}") == notes
    assert f"celery-runpod show {waited[0]}" in answer.stderr
