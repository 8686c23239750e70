"""`doctor`: every kind of trouble in words, exit status 1 only for what is wrong, and no secret anywhere."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from celery import Celery
from click.testing import CliRunner
from kombu.transport.memory import Channel
from redis import Redis

from celery_runpod._cli.doctor import findings, runpod_checks, server_checks, store_checks
from celery_runpod._cli.doctor.doctor_command import doctor
from celery_runpod._cli.doctor.server_checks import check_consumers
from celery_runpod._cli.doctor.settings_checks import check_versions
from celery_runpod._private_names import TRIED
from celery_runpod._store.keys import Keys
from celery_runpod.api._answers import Health
from celery_runpod.errors import EndpointNotFound, Unauthorized, Unavailable
from tests.unit.cli.conftest import worker_up

PASSWORD, API_KEY, WEBHOOK_SECRET = "hush-hush", "rpa_key_of_a_user", "a-secret-of-webhooks"
URL = f"redis://user:{PASSWORD}@redis.example:6379/0"
INFO = {"redis_version": "7.4.1", "maxmemory_policy": "noeviction", "aof_enabled": 1, "role": "master"}


@pytest.fixture(autouse=True)
def reachable(monkeypatch: pytest.MonkeyPatch) -> Redis:
    """Redis and RunPod as they should be; a test makes one thing wrong."""
    for name in ("RUNPOD_BROKER_URL", "RUNPOD_RESULT_BACKEND"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDIS_URL", URL)
    monkeypatch.setenv("RUNPOD_API_KEY", API_KEY)
    monkeypatch.setenv("RUNPOD_ENDPOINT_SDXL", "9zt0qb3c")
    fake = fakeredis.FakeRedis(decode_responses=True)
    fake.flushall()
    for module in (server_checks, store_checks):
        monkeypatch.setattr(module, "connect", lambda url, patience: fake)
    # No broker is asked: `test_messages_to_which_no_worker_listens` does that.
    monkeypatch.setattr("celery_runpod._cli.doctor.server_checks.check_consumers", lambda url, names: [])
    redis_says(monkeypatch)
    runpod_says(monkeypatch, lambda: Health(idle=1))
    return fake


def redis_says(monkeypatch: pytest.MonkeyPatch, skew_s: float = 0.001, **info: Any) -> None:
    monkeypatch.setattr(server_checks, "look_at_redis", lambda url: ({**INFO, **info}, 0.0004, skew_s))


def runpod_says(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Health]) -> None:
    monkeypatch.setattr(runpod_checks, "health", lambda key, base_url, endpoint: answer())


def ask(runner: CliRunner, *options: str) -> tuple[int, dict[tuple[str, str], str], dict[str, str]]:
    """Exit status, (check, level) -> what was found and advised, and the settings shown."""
    answer = runner.invoke(doctor, ["--json", *options])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    for secret in (PASSWORD, API_KEY, WEBHOOK_SECRET):
        assert secret not in answer.output
    found = json.loads(answer.stdout)
    assert found["ok"] is (answer.exit_code == 0)
    lines: dict[tuple[str, str], str] = {}
    for one in found["findings"]:
        place = (one["check"], one["level"])
        lines[place] = f"{lines.get(place, '')}{one['found']} -> {one['advice']}\n"
    return answer.exit_code, lines, found["settings"]


def test_all_is_well(runner: CliRunner, reachable: Redis) -> None:
    worker_up(reachable)
    status, found, settings = ask(runner)
    assert status == 0
    assert {level for _, level in found} == {"ok"}, found
    assert settings["REDIS_URL"] == "redis://user:***@redis.example:6379/0"
    assert settings["RUNPOD_API_KEY"] == "***"
    assert settings["endpoint sdxl"] == "9zt0qb3c"
    assert "Redis 7.4.1" in found["broker, result backend, store", "ok"]
    assert "key accepted" in found["endpoint sdxl (9zt0qb3c)", "ok"]


def test_words_for_people(runner: CliRunner) -> None:
    answer = runner.invoke(doctor)
    assert answer.exit_code == 0
    assert "no RunPod worker is up" in answer.stdout
    assert "-> start one: celery-runpod worker" in answer.stdout
    assert "0 wrong, 1 warnings" in answer.stdout


def test_no_worker_and_no_aof_are_warnings(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    redis_says(monkeypatch, aof_enabled=0)
    status, found, _ = ask(runner)
    assert status == 0
    assert {check for check, level in found if level == "warning"} == {
        "workers",
        "broker, result backend, store: persistence",
    }


@pytest.mark.parametrize(
    ("trouble", "check", "words"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "memory", "allkeys-lru"),
        ({"skew_s": 3.2}, "clock", "+3.2 s off"),
        ({"skew_s": -3.2}, "clock", "-3.2 s off"),
        ({"role": "slave"}, "", "replica"),
    ],
)
def test_a_redis_that_would_lose_jobs_is_wrong(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, trouble: dict[str, Any], check: str, words: str
) -> None:
    redis_says(monkeypatch, **trouble)
    status, found, _ = ask(runner)
    assert status == 1
    assert words in found[": ".join(["broker, result backend, store", check]).removesuffix(": "), "wrong"]


def test_redis_away(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("REDIS_URL", f"redis://:{PASSWORD}@127.0.0.1:1/0")
    status, found, _ = ask(runner)
    assert status == 1
    assert "redis://:***@127.0.0.1:1/0 cannot be reached" in found["broker, result backend, store", "wrong"]


def test_each_redis_is_looked_at_once(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_STORE_URL", "redis://store.example/0")
    _, found, _ = ask(runner)
    assert {("broker, result backend", "ok"), ("store", "ok")} <= found.keys()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unauthorized("no", status=401), "refuses the API key (HTTP 401)"),
        (EndpointNotFound("no", status=404), "knows no endpoint of this id"),
        (Unavailable("cannot connect to the API", sent=False), "cannot be reached"),
        (RuntimeError(f"Bearer {API_KEY}"), "could not be made (RuntimeError)"),
    ],
)
def test_runpod_unreachable_key_refused_and_endpoint_unknown_are_told_apart(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def answer() -> Health:
        raise error

    runpod_says(monkeypatch, answer)
    status, found, _ = ask(runner)
    assert status == 1
    assert words in found["endpoint sdxl (9zt0qb3c)", "wrong"]


def test_a_missing_key_is_wrong(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY")
    assert "set RUNPOD_API_KEY" in ask(runner)[1]["endpoint sdxl", "wrong"]
    monkeypatch.delenv("RUNPOD_ENDPOINT_SDXL")
    assert "set RUNPOD_API_KEY" in ask(runner)[1]["API key", "wrong"]


def test_a_profile_is_asked_with_its_own_key(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "endpoints.toml"
    file.write_text('[endpoints.llm]\nid = "xyz"\napi_key_name = "b"\n')
    monkeypatch.setenv("RUNPOD_CONFIG", str(file))
    monkeypatch.setenv("RUNPOD_API_KEY_B", "rpa_another_key")
    asked = []

    def health(key: str, base_url: str, endpoint: str) -> Health:
        asked.append((key, endpoint))
        return Health()

    monkeypatch.setattr(runpod_checks, "health", health)
    assert ask(runner)[0] == 0
    assert sorted(asked) == [("rpa_another_key", "xyz"), (API_KEY, "9zt0qb3c")]


def test_all_wrong_settings_are_told_at_once(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "endpoints.toml"
    file.write_text("[endpoints.llm]\ndeadline = 900\n")
    monkeypatch.setenv("RUNPOD_CONFIG", str(file))
    monkeypatch.setenv("RUNPOD_MAX_CHECKS", "many")
    monkeypatch.setenv("RUNPOD_BASE_URL", f"ftp://u:{PASSWORD}@example")
    monkeypatch.setenv("RUNPOD_NAMESPACE", "a b")
    status, found, _ = ask(runner)
    assert status == 1
    for words in ("RUNPOD_MAX_CHECKS", "RUNPOD_BASE_URL", "RUNPOD_NAMESPACE", "endpoints.llm"):
        assert words in found["settings", "wrong"]
    assert ("broker, result backend, store", "ok") in found


def test_a_mistyped_setting_is_a_warning(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_SECRT", WEBHOOK_SECRET)
    assert "RUNPOD_WEBHOOK_SECRET" in ask(runner)[1]["settings", "warning"]


def test_a_namespace_of_another_broker_is_wrong(runner: CliRunner, reachable: Redis, keys: Keys) -> None:
    masked = "redis://user:***@redis.example:6379/0"
    reachable.set(keys.identity(), json.dumps({"broker": "redis://elsewhere/0", "backend": masked}))
    status, found, _ = ask(runner)
    assert status == 1
    assert "was begun with the broker redis://elsewhere/0" in found["namespace", "wrong"]


def test_doctor_writes_nothing(runner: CliRunner, reachable: Redis) -> None:
    ask(runner)
    assert reachable.keys() == []


def test_webhooks(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_SECRET", WEBHOOK_SECRET)
    monkeypatch.setenv("RUNPOD_WEBHOOK_URL", "http://localhost:8000/runpod")
    status, found, _ = ask(runner)
    assert status == 1
    assert "RunPod cannot reach localhost" in found["webhooks", "wrong"]
    monkeypatch.setenv("RUNPOD_WEBHOOK_URL", "http://example.org/runpod")
    assert "RUNPOD_ALLOW_HTTP=1" in ask(runner)[1]["settings", "wrong"]
    monkeypatch.setenv("RUNPOD_ALLOW_HTTP", "1")
    assert "use https" in ask(runner)[1]["webhooks", "warning"]


def test_clear_text_that_was_allowed(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_HTTP", "1")
    assert ("clear text", "warning") not in ask(runner)[1]
    monkeypatch.setenv("RUNPOD_BASE_URL", "http://runpod.example/v2")
    assert "unset RUNPOD_ALLOW_HTTP" in ask(runner)[1]["clear text", "warning"]


def test_a_short_secret_of_webhooks(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_SECRET", "short-one")
    status, found, text = ask(runner)
    assert status == 1 and "short-one" not in text
    assert "9 characters; allowed: at least 16" in found["settings", "wrong"]


def test_key_names_of_an_endpoint_that_is_not_set(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_ENDPOINT_NONE_API_KEY_NAMES", "a,b")
    assert "RUNPOD_ENDPOINT_NONE is not set" in ask(runner)[1]["settings", "warning"]
    monkeypatch.setenv("RUNPOD_ENDPOINT_NONE", "id1")
    assert ("settings", "warning") not in ask(runner)[1]


def test_a_server_that_never_answers_does_not_hold_doctor(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(server_checks, "CHECK_S", 0.05)
    monkeypatch.setattr(runpod_checks, "CHECK_S", 0.05)
    monkeypatch.setattr(server_checks, "look_at_redis", lambda url: never.wait())
    runpod_says(monkeypatch, lambda: Health(idle=int(never.wait())))
    status, found, _ = ask(runner)
    never.set()
    assert status == 1
    assert "no answer within 0.05 s" in found["broker, result backend, store", "wrong"]
    assert "no answer within 0.05 s" in found["endpoint sdxl (9zt0qb3c)", "wrong"]


def test_the_redactor_knows_passwords_however_they_are_written() -> None:
    redact = findings.Redactor({"REDIS_URL": "redis://:p%40ss-word@h/0", "MY_TOKEN": "tok-1234", "HOME": "/root"})
    text = "p@ss-word p%40ss-word tok-1234 amqp://me:other@host/x http://h/?api_key=abc&x=1 /root"
    assert redact(text) == "*** *** *** amqp://me:***@host/x http://h/?api_key=***&x=1 /root"
    unencoded = findings.Redactor({"REDIS_URL": "redis://:top/secret#1@h/0"})
    assert unencoded("redis://:top/secret#1@h/0 top/secret#1") == "redis://:***@h/0 ***"


# pauses by hand, bounds, queues that nobody listens to


def test_a_pause_by_hand_is_shown(runner: CliRunner, reachable: Redis) -> None:
    reachable.hset(Keys("runpod").holds(), "*", "1790000000.0")
    status, found, _ = ask(runner)
    assert status == 0
    assert "celery-runpod resume --all" in found["submits", "warning"]


@pytest.mark.parametrize(("jobs", "level"), [("79", "ok"), ("80", "warning")])
def test_a_namespace_that_is_nearly_full(runner: CliRunner, reachable: Redis, jobs: str, level: str) -> None:
    told = {"jobs": jobs, "input_bytes": "0", "most_jobs": "100", "most_input_bytes": "100"}
    reachable.hset(Keys("runpod").totals(), mapping=told)
    status, found, _ = ask(runner)
    assert status == 0
    assert level == "ok" or f"{jobs} open jobs of 100 (RUNPOD_MOST_OPEN_JOBS)" in found["bounds", level]


def test_calls_that_no_worker_accepts_as_after_a_purge(runner: CliRunner, reachable: Redis) -> None:
    reachable.zadd(Keys("runpod").outbox(), {"t1": time.time() - 60, "t2": time.time() - 60, "new": time.time()})
    status, found, _ = ask(runner)
    assert status == 0
    assert "2 calls wait" in found["calls", "warning"] and "celery-runpod purge --calls" in found["calls", "warning"]


def test_a_package_that_is_newer_than_those_that_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_versions() == []
    monkeypatch.setitem(TRIED, "kombu", "5.3")
    [found] = check_versions()
    assert found.check == "kombu" and "is newer than 5.3" in found.found


def test_messages_to_which_no_worker_listens() -> None:
    Channel.queues.clear()  # the memory of all apps
    app = Celery("unit", broker="memory://unheard", set_as_current=False)
    app.send_task("runpod.run", queue="runpod")
    app.send_task("mine", queue="mine")
    found = {one.check: one.advice for one in check_consumers("memory://unheard", ["runpod", "runpod.status", "mine"])}
    assert found.keys() == {"queue runpod", "queue mine"}
    assert "celery-runpod worker" in found["queue runpod"]
    assert "-Q mine" in found["queue mine"]
