"""`doctor` on keys that open jobs use, and on the management API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from redis import Redis

from celery_runpod._cli.doctor import runpod_checks
from celery_runpod._store.keys import Keys
from celery_runpod.errors import RequestRejected, RunPodError, Unauthorized, Unavailable
from tests.unit.cli.conftest import put
from tests.unit.cli.test_doctor import ask, reachable  # noqa: F401 - a fixture


def test_names_of_keys_that_open_jobs_use(
    runner: CliRunner,
    reachable: Redis,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / "green"
    file.write_text("key-in-a-file")
    monkeypatch.setenv("RUNPOD_API_KEY_GREEN_FILE", str(file))
    put(reachable, "t1", api_key_name="blue")
    put(reachable, "t2", api_key_name="blue")
    put(reachable, "t3", api_key_name="green")
    put(reachable, "t4")
    reachable.hset(Keys("runpod").cancel_keys("abc"), "r9", "gone-team")
    status, found, _ = ask(runner)
    assert status == 1
    assert (
        "2 open jobs" in found["API key 'blue'", "wrong"] and "RUNPOD_API_KEY_BLUE" in found["API key 'blue'", "wrong"]
    )
    assert "RUNPOD_API_KEY_GONE_TEAM" in found["API key 'gone-team'", "wrong"]
    assert "1 open jobs" in found["API key 'green'", "ok"]
    assert "1 open jobs" in found["API key", "ok"]
    monkeypatch.setenv("RUNPOD_API_KEY_BLUE", "key-of-the-blue-team")
    monkeypatch.setenv("RUNPOD_API_KEY_GONE_TEAM", "key-of-another-team")
    assert ask(runner)[0] == 0


def _raising(error: RunPodError) -> Callable[[object], int]:
    def count(settings: object) -> int:
        raise error

    return count


@pytest.mark.parametrize(
    ("says", "level", "words"),
    [
        (lambda settings: 3, "ok", "3 pods"),
        (_raising(Unauthorized("no", "list-pods", None, 401)), "wrong", "refuses the API key"),
        (_raising(Unavailable("connection refused")), "wrong", "connection refused"),
        (_raising(RequestRejected("not found", "list-pods", None, 404)), "wrong", "RUNPOD_REST_VERSION"),
    ],
)
def test_the_management_api_is_asked_where_it_is_set(
    runner: CliRunner,
    reachable: Redis,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    says: Callable[[object], int],
    level: str,
    words: str,
) -> None:
    monkeypatch.setattr(runpod_checks, "count_pods", says)
    assert not any(check == "management API" for check, _ in ask(runner)[1])
    monkeypatch.setenv("RUNPOD_REST_URL", "http://127.0.0.1:1/v2")
    assert words in ask(runner)[1]["management API", level]
