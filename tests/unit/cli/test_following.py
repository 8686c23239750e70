"""Following a job: Redis goes away, progress looks like markup, results are dates, or are not kept at all."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import ConnectionError as RedisAway

from celery_runpod._cli import follow_job, job_commands
from celery_runpod._cli.follow_job import PATIENCE_S, follow, report
from celery_runpod.results import JobResult
from tests.unit.cli.conftest import put


@pytest.fixture
def app() -> Celery:
    """On a result backend in memory."""
    return job_commands.client()


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what happens, one thing after the other, each time that 10 s have gone by between two looks."""

    def prepare(*steps: Callable[[], Any]) -> None:
        left: Iterator[Callable[[], Any]] = iter(steps)
        times = iter(range(0, 10_000, 10))
        at = [float(next(times))]

        def pause() -> None:
            at[0] = float(next(times))
            next(left)()

        monkeypatch.setattr(follow_job, "clock", lambda: at[0])
        monkeypatch.setattr(follow_job, "pause", pause)

    return prepare


def nothing() -> None:
    """Time goes by, and that is all."""


@pytest.fixture
def away(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the result backend unreachable; undone by `monkeypatch.undo`, or by storing `get_task_meta` again."""

    def gone(*_: Any, **__: Any) -> Any:
        raise RedisAway("Error 111 connecting to 127.0.0.1:1")

    return lambda: monkeypatch.setattr(app.backend, "get_task_meta", gone)


def test_a_blip_of_redis_is_waited_out(
    redis: Redis,
    app: Celery,
    passing: Callable[..., None],
    away: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = app.backend.get_task_meta

    def back() -> None:
        app.backend.store_result("t1", 3, "SUCCESS")
        app.backend.get_task_meta = answers

    passing(away, nothing, back)
    job = JobResult("t1", app=app)
    verdict = follow(job, 0.0)
    away()
    report(job, 0.0, verdict, as_json=False)
    shown = capsys.readouterr()
    assert shown.out == "3\n", "what follow has found is not asked for again"
    assert "Redis does not answer; it is asked again  10 s" in shown.err


def test_a_redis_that_stays_away_is_one_sentence_that_finds_the_job_again(
    redis: Redis, app: Celery, passing: Callable[..., None], away: Callable[[], None]
) -> None:
    passing(away, *[nothing] * int(PATIENCE_S / 10))
    with pytest.raises(click.ClickException) as caught:
        follow(JobResult("t1", app=app), 0.0)
    assert "Error 111" in caught.value.message
    assert "the job goes on: celery-runpod show t1" in caught.value.message


def test_two_blips_are_not_added_up(
    redis: Redis, app: Celery, passing: Callable[..., None], away: Callable[[], None]
) -> None:
    answers = app.backend.get_task_meta

    def back() -> None:
        app.backend.get_task_meta = answers

    passing(away, nothing, back, away, nothing, back, lambda: app.backend.store_result("t1", 3, "SUCCESS"))
    assert follow(JobResult("t1", app=app), 0.0) is None


@pytest.mark.parametrize("progress", ["done [/tmp/x.png]", "[step 1/10] rendering", "[red]", ":smile:"])
def test_progress_is_shown_as_it_is_on_a_terminal(
    redis: Redis,
    app: Celery,
    passing: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    progress: str,
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "150")
    passing(
        lambda: app.backend.store_result("t1", {"progress": progress}, "IN_PROGRESS"),
        nothing,
        lambda: app.backend.store_result("t1", 3, "SUCCESS"),
    )
    assert follow(JobResult("t1", app=app), 0.0) is None
    assert progress in capsys.readouterr().err


@pytest.mark.parametrize(("verdict", "status"), [("COMPLETED", None), ("FAILED", 1)])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_job_that_ends_without_a_result_ends_the_following(
    redis: Redis,
    app: Celery,
    passing: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    verdict: str,
    status: int | None,
    as_json: bool,
) -> None:
    put(redis, "t1")
    passing(lambda: put(redis, "t1", state="DELIVERED", verdict=verdict))
    job = JobResult("t1", app=app)
    found = follow(job, 0.0)
    assert found == verdict
    try:
        report(job, 0.0, found, as_json=as_json)
        ended = None
    except SystemExit as error:
        ended = error.code
    shown = capsys.readouterr()
    told = json.loads(shown.out)["why"] if as_json else shown.err.splitlines()[-1]
    assert (told, ended) == (f"ended as {verdict}; its result is not kept", status)


def test_a_result_that_comes_while_the_record_is_read_is_not_missed(
    redis: Redis, app: Celery, passing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(redis, "t1", state="DELIVERED", verdict="COMPLETED")
    passing(nothing)
    rows_of = follow_job.job_rows.rows_of

    def read(*arguments: Any) -> Any:
        app.backend.store_result("t1", 3, "SUCCESS")
        return rows_of(*arguments)

    monkeypatch.setattr(follow_job.job_rows, "rows_of", read)
    job = JobResult("t1", app=app)
    assert follow(job, 0.0) is None
    assert job.result == 3


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02 00:00:00+00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.50"), "1.50"),
    ],
)
def test_what_celerys_json_brings_back_is_printed(
    redis: Redis, app: Celery, capsys: pytest.CaptureFixture[str], as_json: bool, output: Any, shown: str
) -> None:
    app.backend.store_result("t1", {"value": output}, "SUCCESS")
    job = JobResult("t1", app=app)
    report(job, 0.0, follow(job, 0.0), as_json=as_json)
    told = json.loads(capsys.readouterr().out)
    assert (told["output"] if as_json else told) == {"value": shown}
