"""The webhook's view: the URL is verified first, the store asked second, the body read where it is needed, and nothing
of it goes on."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.test import RequestFactory, override_settings
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod._protocol import CHECK_STATUS
from celery_runpod._webhooks import receive as receive_module
from celery_runpod._webhooks.receive import MOST_BYTES, receive
from celery_runpod._webhooks.signed_urls import sign_url
from celery_runpod.errors import BrokerUnavailable, Unavailable
from celery_runpod.flask import create_app
from celery_runpod.options import Options
from tests import django_project  # noqa: F401 - configures Django
from tests.builders import ENDPOINT, Bench

SECRET = "a-secret-of-the-tests-0123456789"
FORGED = json.dumps({"id": "r1", "status": "COMPLETED", "output": "forged"}).encode()


def reachable(_: Any, *, results: bool) -> None:
    assert not results, "a check's message needs the broker alone"


class View:
    """A view's world: a bench whose clock is the real one, and what was sent and read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = Bench()
        self.bench.now = time.time()
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[int] = []
        monkeypatch.setenv("RUNPOD_WEBHOOK_SECRET", SECRET)
        monkeypatch.setattr(receive_module, "store_of", lambda _: self.bench.store)
        monkeypatch.setattr(receive_module, "check_reachable", reachable)
        app = SimpleNamespace(send_task=lambda name, **given: self.sent.append((name, given)))
        monkeypatch.setattr(receive_module, "client_app", lambda: app)

    def query(
        self, task_id: str = "t1", attempt: int = 1, ends_in_s: float = 60.0, secret: str = SECRET
    ) -> dict[str, str]:
        url = sign_url("https://x.test/", secret, "runpod", ENDPOINT, task_id, attempt, time.time() + ends_in_s)
        return dict(parse_qsl(urlsplit(url).query))

    def post(self, query: dict[str, str], body: bytes = FORGED, length: int | None = None) -> int:
        def read(size: int) -> bytes:
            self.asked.append(size)
            return body[:size]

        return receive(query, read, length=length)[0]

    def planned(self) -> None:
        """No check is on its way."""
        self.bench.redis.delete(self.bench.store.keys.next_check_at(ENDPOINT))


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> View:
    return View(monkeypatch)


@pytest.fixture
def unanswered(view: View) -> View:
    view.bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    view.bench.accepted()
    view.planned()
    return view


@pytest.fixture
def running(view: View) -> View:
    view.bench.accepted(options=Options(deadline=600.0))
    view.planned()
    return view


def test_a_webhook_of_an_open_job_makes_it_due_and_sends_a_check_without_the_body(running: View) -> None:
    assert running.post(running.query()) == 200
    assert (running.asked, running.bench.due()) == ([], pytest.approx(0, abs=1))
    ((name, given),) = running.sent
    assert (name, given["args"], given["queue"]) == (CHECK_STATUS, (ENDPOINT,), "runpod.status")
    assert "forged" not in repr(given)
    # The store has no word of it either.
    assert "forged" not in repr([running.bench.redis.dump(key) for key in running.bench.redis.scan_iter()])


@pytest.mark.parametrize("wrong", ["signature", "expired", "attempt", "no query"])
def test_what_was_not_signed_or_has_expired_is_refused_before_body_and_store(
    running: View, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setattr(receive_module, "store_of", lambda _: pytest.fail("the store was asked"))
    query = {
        "signature": running.query(secret="another-secret-of-the-tests"),
        "expired": running.query(ends_in_s=-1000),
        "attempt": {**running.query(), "attempt": "2"},
        "no query": {},
    }[wrong]
    assert running.post(query, length=10**12) == 403
    assert (running.asked, running.sent) == ([], [])


def test_a_closed_attempt_is_taken_and_nothing_is_read_kept_or_sent(running: View) -> None:
    before = sorted(running.bench.redis.keys())
    assert running.post(running.query(task_id="nobody")) == 200
    assert running.post(running.query(attempt=2)) == 200
    assert running.post(running.query(attempt=2), length=10**12) == 200
    assert (running.asked, running.sent, sorted(running.bench.redis.keys())) == ([], [], before)


def test_one_round_trip_asks_and_notes(running: View, monkeypatch: pytest.MonkeyPatch) -> None:
    trips: list[Any] = []
    execute = running.bench.redis.execute_command

    def counted(*args: Any, **kwargs: Any) -> Any:
        trips.append(args[0])
        return execute(*args, **kwargs)

    running.post(running.query())
    monkeypatch.setattr(running.bench.redis, "execute_command", counted)
    running.post(running.query())
    running.post(running.query(task_id="nobody"))
    assert trips == ["EVALSHA", "EVALSHA"]


def test_the_body_of_an_unanswered_submit_gives_its_id_and_no_more(unanswered: View) -> None:
    assert unanswered.post(unanswered.query()) == 200
    assert unanswered.asked == [MOST_BYTES + 1]
    assert unanswered.bench.store.submits.candidates(unanswered.bench.record()) == ["r1"]
    assert len(unanswered.sent) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        b'{"id": "r1", "output": ' + b"[" * 100_000,
        b"{}",
        b'{"id": 7}',
        b'{"id": ""}',
        b'{"id": "../../other"}',
        b'{"id": "a b"}',
        json.dumps({"id": "x" * 256}).encode(),
        b'{"output": {"id": "r1"}}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_that_names_no_job_is_refused(unanswered: View, body: bytes) -> None:
    assert unanswered.post(unanswered.query(), body) == 400
    assert unanswered.sent == []
    assert unanswered.bench.store.submits.candidates(unanswered.bench.record()) == []


def test_a_body_over_the_limit_is_refused_by_its_length_or_once_that_much_is_read(unanswered: View) -> None:
    assert unanswered.post(unanswered.query(), length=MOST_BYTES + 1) == 413
    assert unanswered.asked == []
    assert unanswered.post(unanswered.query(), b" " * (MOST_BYTES + 1)) == 413


def test_one_id_too_many_is_asked_for_again(unanswered: View) -> None:
    statuses = [unanswered.post(unanswered.query(), json.dumps({"id": f"r{number}"}).encode()) for number in range(6)]
    assert statuses == [200] * 5 + [503]


def test_a_store_or_a_broker_that_is_away_is_told_so_that_runpod_tries_again(
    running: View, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise BrokerUnavailable("broker", "redis://x", "refused")

    monkeypatch.setattr(receive_module, "check_reachable", away)
    assert running.post(running.query()) == 503

    def lost(*_: Any) -> str:
        raise RedisConnectionError("away")

    monkeypatch.setattr(running.bench.store, "hint", lost)
    assert running.post(running.query()) == 503
    monkeypatch.delenv("RUNPOD_WEBHOOK_SECRET")
    assert running.post(running.query()) == 503
    assert running.query()["signature"] not in caplog.text


def test_a_previous_secret_is_still_taken(running: View, monkeypatch: pytest.MonkeyPatch) -> None:
    query = running.query()
    monkeypatch.setenv("RUNPOD_WEBHOOK_SECRET", "the-new-secret-of-the-tests")
    assert running.post(query) == 403
    monkeypatch.setenv("RUNPOD_WEBHOOK_SECRET_PREVIOUS", SECRET)
    assert running.post(query) == 200


# The frameworks


def flask_post(query: dict[str, str], body: bytes) -> int:
    app = create_app()
    app.config["MAX_CONTENT_LENGTH"] = 1000
    return app.test_client().post("/runpod/webhook", query_string=query, data=body).status_code


def django_post(query: dict[str, str], body: bytes) -> int:
    from urllib.parse import urlencode

    from celery_runpod.django._webhook_view import webhook

    request = RequestFactory().post(f"/webhook?{urlencode(query)}", body, content_type="application/json")
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000):
        return webhook(request).status_code


@pytest.fixture(params=[flask_post, django_post], ids=["flask", "django"])
def post(request: pytest.FixtureRequest) -> Callable[[dict[str, str], bytes], int]:
    found: Callable[[dict[str, str], bytes], int] = request.param
    return found


def test_frameworks_answer_alike(unanswered: View, post: Callable[[dict[str, str], bytes], int]) -> None:
    large = json.dumps({"output": "x" * 5000, "id": "r9"}).encode()
    assert post(unanswered.query(), large) == 200
    assert unanswered.bench.store.submits.candidates(unanswered.bench.record()) == ["r9"]
    assert post(unanswered.query(task_id="nobody"), b"not json") == 200
    assert post(unanswered.query(), b"not json") == 400
    assert post(unanswered.query(), b" " * (MOST_BYTES + 1)) == 413
    assert post({}, large) == 403


def test_nothing_that_is_logged_holds_the_url(unanswered: View, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    query = unanswered.query()
    for body in (FORGED, b"no", *(json.dumps({"id": f"x{n}"}).encode() for n in range(6))):
        unanswered.post(query, body)
    unanswered.post({**query, "attempt": "3"})
    assert query["signature"] not in caplog.text
