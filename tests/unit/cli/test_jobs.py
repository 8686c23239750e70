"""`jobs` and `show`: what a record says, in a table, in lines, and as JSON."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from redis import Redis

from celery_runpod._cli import job_commands as jobs_module
from celery_runpod._cli import store_for_commands, worker_calls
from celery_runpod._cli.job_commands import cancel, jobs, show
from celery_runpod._live import job_rows
from celery_runpod._store.keys import Keys
from tests.unit.cli.conftest import put, worker_up


def test_jobs_lists_open_jobs_the_soonest_first(runner: CliRunner, redis: Redis) -> None:
    put(redis, "later", due_in_s=500, job_id="job-2", state="IN_PROGRESS")
    put(redis, "sooner", due_in_s=50, reason="BUDGET", state="WAITING")
    found = json.loads(runner.invoke(jobs, ["--json"]).stdout)
    assert [(one["task_id"], one["state"], one["checks"], one["reason"]) for one in found] == [
        ("sooner", "WAITING", 3, "BUDGET"),
        ("later", "IN_PROGRESS", 3, None),
    ]
    assert 0 < found[0]["next_in_s"] <= 50


def test_jobs_of_one_endpoint_by_its_name_or_id(runner: CliRunner, redis: Redis) -> None:
    put(redis, "one", endpoint="abc", name="sdxl")
    put(redis, "two", endpoint="xyz", name="llm")
    for wanted in ("llm", "xyz"):
        found = json.loads(runner.invoke(jobs, ["--endpoint", wanted, "--json"]).stdout)
        assert [one["task_id"] for one in found] == ["two"]


def test_jobs_shows_what_is_not_delivered_and_hides_what_is(runner: CliRunner, redis: Redis, keys: Keys) -> None:
    put(redis, "ended", due_in_s=None, state="COMPLETED")
    redis.zadd(keys.undelivered("abc"), {"ended": 9e9})
    put(redis, "gone", state="DELIVERED")
    found = json.loads(runner.invoke(jobs, ["--json"]).stdout)
    assert [one["task_id"] for one in found] == ["ended"]


def test_jobs_leaves_out_what_is_over_the_limit_and_says_so(runner: CliRunner, redis: Redis) -> None:
    for number in range(5):
        put(redis, f"task-{number}", due_in_s=100 + number)
    answer = runner.invoke(jobs, ["--limit", "2"])
    assert [line.split("\t")[0] for line in answer.stdout.splitlines()] == ["task id", "task-0", "task-1"]
    assert "3 more are not shown" in answer.stderr


def test_the_limit_takes_the_soonest_of_all_endpoints(runner: CliRunner, redis: Redis, keys: Keys) -> None:
    for number in range(3):
        put(redis, f"late-{number}", endpoint="aaa", due_in_s=500 + number)
    put(redis, "ended", endpoint="aaa", due_in_s=None, state="COMPLETED")
    redis.zadd(keys.undelivered("aaa"), {"ended": time.time() + 20})
    put(redis, "soon", endpoint="zzz", due_in_s=10)
    answer = runner.invoke(jobs, ["--limit", "2", "--json"])
    assert [one["task_id"] for one in json.loads(answer.stdout)] == ["soon", "ended"]
    assert "3 more are not shown" in runner.invoke(jobs, ["--limit", "2"]).stderr


@pytest.mark.parametrize("batch", [1, 2, 500])
@pytest.mark.parametrize("wanted", ["llm", "xyz"])
def test_what_is_left_out_are_jobs_of_the_endpoint_that_was_asked_for(
    runner: CliRunner, redis: Redis, monkeypatch: pytest.MonkeyPatch, wanted: str, batch: int
) -> None:
    monkeypatch.setattr(job_rows, "BATCH", batch)
    for number in range(4):
        put(redis, f"sdxl-{number}", endpoint="abc")
        put(redis, f"flux-{number}", endpoint="zzz", name="flux")
        put(redis, f"llm-{number}", endpoint="xyz", name="llm")
    answer = runner.invoke(jobs, ["--endpoint", wanted, "--limit", "2"])
    assert [line.split("\t")[0] for line in answer.stdout.splitlines()] == ["task id", "llm-0", "llm-1"]
    assert "2 more are not shown" in answer.stderr
    assert "not shown" not in runner.invoke(jobs, ["--endpoint", wanted, "--limit", "4"]).stderr


def test_a_table_of_jobs_reads_no_markup(runner: CliRunner, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    put(redis, "one", name="[/x]")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(jobs_module, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    answer = runner.invoke(jobs)
    assert (answer.exit_code, "[/x]" in answer.stdout) == (0, True)


def test_progress_and_reason_are_json_of_their_own(runner: CliRunner, redis: Redis) -> None:
    put(redis, "one", state="IN_PROGRESS", progress='{"step": 1}', reason="")
    put(redis, "two")
    told = json.loads(runner.invoke(show, ["one", "--json"]).stdout)
    assert (told["progress"], told["reason"]) == ({"step": 1}, None)
    told = json.loads(runner.invoke(show, ["two", "--json"]).stdout)
    assert (told["progress"], told["reason"]) == (None, None)


def test_jobs_says_that_there_is_none_and_that_no_worker_is_up(runner: CliRunner, redis: Redis) -> None:
    answer = runner.invoke(jobs)
    assert (answer.exit_code, answer.stdout) == (0, "no open job\n")
    assert "no RunPod worker is up" in answer.stderr
    worker_up(redis)
    assert runner.invoke(jobs).stderr == ""


def test_show_tells_checks_next_check_and_why(runner: CliRunner, redis: Redis) -> None:
    put(redis, "one", state="WAITING", reason="RATE_LIMITED", accepted_at="1000.0")
    worker_up(redis)
    answer = runner.invoke(show, ["one"])
    assert answer.exit_code == 0
    lines = dict(line.split("  ", 1) for line in answer.stdout.splitlines())
    assert lines["checks made"].strip() == "3"
    assert ", in " in lines["next check"]
    assert lines["why"].strip() == "RunPod answered 429; it is asked again later"
    assert lines["endpoint"].strip() == "sdxl (RunPod's id abc)"


def test_show_without_a_worker_says_so(runner: CliRunner, redis: Redis) -> None:
    put(redis, "one")
    assert "no RunPod worker is up" in runner.invoke(show, ["one"]).stdout
    assert json.loads(runner.invoke(show, ["one", "--json"]).stdout)["worker_up"] is False


def test_show_of_a_delivered_job(runner: CliRunner, redis: Redis, keys: Keys) -> None:
    put(redis, "one", due_in_s=None, state="DELIVERED", verdict="COMPLETED", ended_at="2000.0", execution_s="1.5")
    redis.hdel(keys.job("abc", "one"), "checks")
    answer = runner.invoke(show, ["one"])
    assert answer.exit_code == 0
    assert "COMPLETED" in answer.stdout
    assert "none: its end has reached the caller" in answer.stdout
    assert "1.5 s" in answer.stdout


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_show_of_an_unknown_id_fails(runner: CliRunner, redis: Redis, options: list[str]) -> None:
    answer = runner.invoke(show, ["nowhere", *options])
    assert answer.exit_code == 1
    assert "not accepted yet (no RunPod worker is up)" in answer.stdout + answer.stderr


def test_show_of_a_call_that_no_worker_has_accepted_yet(
    runner: CliRunner, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "now", lambda: 1012.0)
    redis.zadd(keys.outbox(), {"one": 1000.0})
    answer = runner.invoke(show, ["one"])
    assert answer.exit_code == 0
    assert "one: published 12 s ago, no worker has accepted it yet; no RunPod worker is up" in answer.stdout
    redis.zadd(keys.workers(), {"runpod@here": 2000.0})
    told = json.loads(runner.invoke(show, ["one", "--json"]).stdout)
    assert (told["state"], told["why"]) == (None, "published 12 s ago, no worker has accepted it yet")


def test_show_of_a_step_that_is_no_job(runner: CliRunner, redis: Redis, keys: Keys) -> None:
    redis.set(keys.task("step"), json.dumps({"endpoint": None, "root": "root"}))
    answer = runner.invoke(show, ["step"])
    assert answer.exit_code == 1
    assert "a step under root" in answer.stderr


def test_a_store_that_is_away_is_one_sentence_without_the_password(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_STORE_URL", "redis://:hush-hush@127.0.0.1:1/0")
    for command in (jobs, show):
        answer = runner.invoke(command, ["one"] if command is show else [])
        assert answer.exit_code == 1
        assert "redis://:***@127.0.0.1:1/0 cannot be reached" in answer.stderr
        assert "hush" not in answer.output


def test_the_store_is_opened_with_the_words_that_celery_has_for_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_STORE_URL", "rediss://127.0.0.1:6379/0?ssl_cert_reqs=CERT_NONE")
    assert store_for_commands.open_store().redis.connection_pool.connection_kwargs["ssl_cert_reqs"] == "none"


def test_cancel_leaves_the_wish_in_the_store(runner: CliRunner, redis: Redis, keys: Keys) -> None:
    put(redis, "one")
    answer = runner.invoke(cancel, ["one", "two"])
    assert answer.exit_code == 0, answer.output
    assert redis.exists(keys.cancel_note("one"), keys.cancel_note("two")) == 2
    assert runner.invoke(cancel, ["--all", "three"]).exit_code == 0
    assert redis.exists(keys.cancel_note("three")) == 1


def test_an_endpoint_on_hold_is_shown(runner: CliRunner, redis: Redis, keys: Keys) -> None:
    redis.hset(keys.holds(), "abc", "1790000000.0")
    answer = runner.invoke(jobs)
    assert "celery-runpod resume abc" in answer.stderr


def test_pause_takes_an_endpoint_or_all(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(worker_calls._asking, "pause", lambda endpoint, **_: asked.append(endpoint))
    assert runner.invoke(worker_calls.pause, ["sdxl"]).exit_code == 0
    assert runner.invoke(worker_calls.pause, ["--all"]).exit_code == 0
    assert asked == ["sdxl", None]
    for wrong in ([], ["sdxl", "--all"]):
        assert runner.invoke(worker_calls.pause, wrong).exit_code == 2


def test_a_record_that_cannot_be_read_is_listed_and_stops_no_other(runner: CliRunner, redis: Redis) -> None:
    put(redis, "good")
    put(redis, "bad", options="{")
    listed = {row["task_id"]: row["why"] for row in json.loads(runner.invoke(jobs, ["--json"]).stdout)}
    assert "jobs --aside" in listed["bad"] and "jobs --aside" not in listed["good"]
