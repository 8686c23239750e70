"""A webhook is a hint: forged, replayed, leaked or huge, it changes no result, fills no Redis and costs one look.

The URLs are those that RunPod was given, taken from the simulator's record of the submit.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest
import requests

from celery_runpod._devstack.stack import free_port
from celery_runpod.errors import DeadlineExceeded, StatusStuck, SubmissionUnconfirmed
from celery_runpod.results import JobResult
from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import (
    GROWTH_BYTES,
    WAIT_S,
    asked,
    end_of,
    health_answers,
    held_still,
    memory,
    no_harm,
    queued,
    revive,
    serve_webhooks,
    typed,
    webhook_of,
)
from tests.hostile.messages import deep
from tests.servers import ROOT, World
from tests.waiting import eventually

EVIL: dict[str, Any] = {"image_url": "http://evil.example/"}
LARGE = b'{"id": "x", "status": "COMPLETED", "output": "' + b"x" * 24_000_000 + b'"}'
RELUCTANT = {"first": 60, "cap": 60}
"""A backoff under which a result that comes soon has come by a webhook."""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[World]:
    env = {
        "RUNPOD_WEBHOOK_URL": f"http://127.0.0.1:{port}/runpod/webhook",
        "RUNPOD_WEBHOOK_SECRET": "a secret of more than sixteen characters",
    }

    def prepare(world: World) -> None:
        serve_webhooks(world, port)
        start_workers(world)

    with servers_of(
        tmp_path_factory.mktemp("webhooks"), env=env, simulator=("--webhook-retry-delay", "1"), prepare=prepare
    ) as world:
        yield world


@pytest.fixture
def world(servers: World, port: int) -> Iterator[World]:
    servers.app()
    for server in [one for one in servers.stack.servers if one.name == "webhooks" and one.process.poll() is not None]:
        servers.stack.remove(server)
        serve_webhooks(servers, port)
    revive(servers, start_workers)
    yield servers
    servers.no_faults()


def at_work(world: World, endpoint: str = "five", **options: Any) -> tuple[JobResult, str]:
    """A job that RunPod works on, and its mark."""
    mark = uuid.uuid4().hex
    result = world.endpoint(endpoint, **options).delay(mark=mark)
    eventually(lambda: world.statuses(mark), ["IN_PROGRESS"], within_s=WAIT_S)
    eventually(lambda: result.state in ("IN_QUEUE", "IN_PROGRESS"), True, within_s=WAIT_S)
    return result, mark


def altered(url: str, **change: str) -> str:
    """The URL with other values in its query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **change})))


def post(url: str, body: Any) -> int:
    if isinstance(body, bytes):
        return requests.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=60).status_code
    return requests.post(url, json=body, timeout=60).status_code


# What is true


def test_a_webhook_brings_the_result_at_once_and_costs_one_look(world: World) -> None:
    with no_harm(world, submits=1):
        looks = asked(world, "status")
        mark = uuid.uuid4().hex
        result = world.endpoint("fast", backoff=RELUCTANT).delay(mark=mark)
        assert end_of(world, result.id, within_s=45) == {"mark": mark}
        assert asked(world, "status") == looks + 1


# What is forged


FORGED: tuple[dict[str, Any], ...] = (
    {"status": "COMPLETED", "output": EVIL},
    {"status": "FAILED", "error": "forged"},
    {"status": "CANCELLED"},
    {"status": "TIMED_OUT"},
    {"status": "COMPLETED"},
    {"status": "IN_PROGRESS", "output": EVIL},
    {"status": 3},
    {},
)


def test_an_attackers_body_changes_nothing(world: World) -> None:
    with no_harm(world, submits=len(FORGED)):
        victims = []
        for told in FORGED:
            victims.append((told, *(one := at_work(world))))
            job = world.submits(one[1])[0]
            for body in ({"id": job["id"], **told}, {"id": "another", **told}, told):
                assert post(job["webhook"], body) == 200
        for told, result, mark in victims:
            assert end_of(world, result.id, what=repr(told)) == {"mark": mark}, told
            assert [(job["id"], job["status"]) for job in world.submits(mark)] == [(result.job_id, "COMPLETED")]


def test_a_foreign_jobs_id_is_not_taken_while_the_submit_is_unanswered(world: World) -> None:
    with no_harm(world, submits=2):
        victim, victims_mark = at_work(world)
        foreign = world.submits(victims_mark)[0]["id"]
        world.fault(operation="run", endpoint="five", kind="drop_after", times=1)
        mark = uuid.uuid4().hex
        result = world.endpoint("five").delay(mark=mark)
        eventually(lambda: len(world.submits(mark)), 1, within_s=WAIT_S)
        for body in ({"id": foreign, "status": "COMPLETED", "output": EVIL}, {"id": "nobody", "status": "COMPLETED"}):
            assert post(webhook_of(world, mark), body) == 200
        # Its own webhook names it in the end.
        end = end_of(world, result.id)
        assert end == {"mark": mark} or isinstance(end, SubmissionUnconfirmed), repr(end)
        assert end_of(world, victim.id) == {"mark": victims_mark}
        assert world.statuses(victims_mark) == ["COMPLETED"]


def test_a_cancel_after_a_foreign_id_does_not_reach_the_foreign_job(world: World) -> None:
    with no_harm(world, submits=2):
        victim, victims_mark = at_work(world)
        world.fault(operation="webhook", endpoint="five", kind="drop_before")
        world.fault(operation="run", endpoint="five", kind="drop_after", times=1)
        mark = uuid.uuid4().hex
        result = world.endpoint("five").delay(mark=mark)
        eventually(lambda: len(world.submits(mark)), 1, within_s=WAIT_S)
        foreign = world.submits(victims_mark)[0]["id"]
        assert post(webhook_of(world, mark), {"id": foreign, "status": "IN_PROGRESS"}) == 200
        result.cancel()
        assert end_of(world, victim.id) == {"mark": victims_mark}
        eventually(lambda: result.ready(), True, within_s=WAIT_S)
        assert world.statuses(victims_mark) == ["COMPLETED"]


def test_the_url_of_another_attempt_changes_nothing(world: World) -> None:
    with no_harm(world, submits=2):
        world.fault(operation="webhook", endpoint="five", kind="drop_before")
        mark = uuid.uuid4().hex
        result = world.endpoint("five", retries=1).delay(mark=mark)
        eventually(lambda: len(world.submits(mark)), 1, within_s=WAIT_S)
        first = webhook_of(world, mark)
        world.fault(operation="status", endpoint="five", kind="body", body='{"status": "FAILED"}', times=1)
        eventually(lambda: len(world.submits(mark)), 2, within_s=WAIT_S)
        looks = asked(world, "status")
        for _ in range(20):
            assert post(first, {"id": "x", "status": "COMPLETED", "output": EVIL}) == 200
        assert end_of(world, result.id) == {"mark": mark}
        assert asked(world, "status") - looks <= 40
        last = max(world.submits(mark), key=lambda job: job["submitted_at"])
        assert result.job_id == last["id"]


ALTERED: tuple[dict[str, str], ...] = (
    {"attempt": "2"},
    {"task": "other"},
    {"endpoint": "small"},
    {"expires": "99999999999"},
    {"signature": "0" * 64},
    {"signature": ""},
    {"signature": "é" * 64},
    {"attempt": "x" * 1000},
)


def test_an_attackers_url_is_refused(world: World) -> None:
    mark = uuid.uuid4().hex
    result = world.endpoint("fast").delay(mark=mark)
    assert end_of(world, result.id) == {"mark": mark}
    url = webhook_of(world, mark)
    with no_harm(world):
        for change in ALTERED:
            assert post(altered(url, **change), {"id": "x", "status": "COMPLETED", "output": EVIL}) == 403, change
        assert post(url.partition("?")[0], {"id": "x", "status": "COMPLETED", "output": EVIL}) == 403


def test_a_url_expires(world: World) -> None:
    """Asked of a receiver whose clock is a year ahead."""
    ahead = world.stack.folder / "ahead"
    ahead.mkdir(exist_ok=True)
    (ahead / "sitecustomize.py").write_text(
        "import time\nnow = time.time\ntime.time = lambda: now() + 366 * 86_400\n", encoding="utf-8"
    )
    port = free_port()
    server = serve_webhooks(world, port, "webhooks-ahead", PYTHONPATH=f"{ahead}:{ROOT}")
    try:
        with no_harm(world, submits=1):
            result, mark = at_work(world)
            parts = urlsplit(webhook_of(world, mark))
            late = urlunsplit(parts._replace(netloc=f"127.0.0.1:{port}"))
            assert post(late, {"id": "x", "status": "COMPLETED", "output": EVIL}) in (403, 410)
            assert end_of(world, result.id) == {"mark": mark}
    finally:
        world.stack.remove(server)


# What fills


def test_a_leaked_url_of_a_job_that_is_over_costs_nothing(world: World) -> None:
    mark = uuid.uuid4().hex
    result = world.endpoint("fast").delay(mark=mark)
    assert end_of(world, result.id) == {"mark": mark}
    url = webhook_of(world, mark)
    eventually(world.open_jobs, [], within_s=WAIT_S)
    with no_harm(world):
        looks, before = asked(world, "status"), memory(world)
        with requests.Session() as session, held_still(world):
            for number in range(200):
                body = LARGE if number % 20 == 0 else LARGE[:1000] + b'"}'
                answer = session.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=60)
                assert answer.status_code == 200
            assert memory(world) - before < GROWTH_BYTES
            assert queued(world) == {}
        assert asked(world, "status") - looks <= 1
    assert end_of(world, result.id) == {"mark": mark}


def test_the_url_of_a_job_that_runs_fills_nothing(world: World) -> None:
    with no_harm(world, submits=1):
        result, mark = at_work(world)
        url = webhook_of(world, mark)
        before = memory(world)
        with requests.Session() as session, held_still(world):
            for _ in range(10):
                answer = session.post(url, data=LARGE, headers={"Content-Type": "application/json"}, timeout=60)
                assert answer.status_code == 200
            assert memory(world) - before < GROWTH_BYTES
            # The workers are stopped, so the record is open.
            (record,) = world.redis.scan_iter(f"*:job:{result.id}")
            assert len(world.redis.dump(record)) < 10_000
            # RunPod has answered the submit, so no id of a body is noted.
            assert list(world.redis.scan_iter(f"*:candidates:{result.id}:*")) == []
        assert end_of(world, result.id) == {"mark": mark}


def test_a_body_of_any_kind_ends_nobody(world: World, port: int) -> None:
    with no_harm(world, submits=1):
        result, mark = at_work(world)
        url = webhook_of(world, mark)
        large_id = b'{"id": "' + b"x" * 20_000_000 + b'", "status": "COMPLETED"}'
        ids = [b'{"id": %s, "status": "COMPLETED"}' % one for one in (b"3", b'"../x"', b'"a\\u0000b"', b"{}", b"null")]
        bodies = [large_id, *ids, deep(100_000).encode(), deep(600).encode(), b"not JSON", b"", b"\xff" * 1000, b"[]"]
        bodies.append(b'{"id": "x", "status": "COMPLETED", "output": ' + deep(600).encode() + b"}")
        for body in bodies:
            assert post(url, body) in (200, 400, 413), body[:40]
        assert health_answers(port, within_s=WAIT_S)
        assert end_of(world, result.id) == {"mark": mark}


def test_a_body_over_25_mb_is_not_taken_in(world: World) -> None:
    with no_harm(world, submits=1):
        result, mark = at_work(world)
        try:
            status = post(webhook_of(world, mark), b" " * 60_000_000)
        except requests.ConnectionError:
            status = 413
        # Where the URL was enough, the body need not be looked at.
        assert status in (200, 400, 413)
        assert end_of(world, result.id) == {"mark": mark}


def test_the_signature_stands_in_no_log(world: World) -> None:
    with no_harm(world, submits=1):
        result, mark = at_work(world)
        url = webhook_of(world, mark)
        signed = dict(parse_qsl(urlsplit(url).query))["signature"]
        assert post(url, {"id": "x"}) == 200
        assert post(altered(url, attempt="7"), {"id": "x"}) == 403
        assert end_of(world, result.id) == {"mark": mark}
    for server in world.stack.servers:
        if not server.name.startswith(("redis", "simulator")):
            assert signed not in server.text(), server.name


# What does not come true


def test_a_status_that_goes_on_saying_in_progress_is_no_silence(world: World) -> None:
    """RunPod's /status may show a late progress update over a result (runpod-python#250)."""
    with no_harm(world, submits=1):
        world.fault(operation="status", endpoint="fast", kind="body", body='{"status": "IN_PROGRESS", "output": 1}')
        result = world.endpoint("fast", deadline=8).delay(mark=uuid.uuid4().hex)
        end = end_of(world, result.id)
        assert isinstance(end, DeadlineExceeded | StatusStuck), repr(end)
        world.no_faults()


def test_a_result_that_a_late_progress_update_hides_is_no_silence(world: World) -> None:
    with no_harm(world, submits=1):
        world.fault(operation="worker", endpoint="fast", kind="reopen")
        result = world.endpoint("fast", deadline=8).delay(mark=uuid.uuid4().hex)
        typed(world, result.id, DeadlineExceeded, StatusStuck)
        world.no_faults()
