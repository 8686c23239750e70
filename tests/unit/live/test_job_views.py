"""The views of a page that watches a job, in Django (WSGI and ASGI) and in Flask: who is refused, and what is sent."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery
from flask import Flask, abort
from redis.exceptions import ConnectionError as RedisConnectionError
from werkzeug.serving import make_server

import celery_runpod.flask
from celery_runpod._live import chunk_hub, chunks, job_pages
from celery_runpod._live.browser_json import event_id
from celery_runpod._live.job_pages import Places
from celery_runpod._live.job_update import JobUpdate
from celery_runpod._live.update_hub import UpdateHub
from celery_runpod._store.streams import Entry
from celery_runpod.errors import ConfigurationError, InvalidOption
from celery_runpod.flask import RunPod, jobs
from tests import django_project
from tests.waiting import eventually

RUNNING = JobUpdate("t1", "IN_PROGRESS", progress="<b>3</b>")
DONE = JobUpdate("t1", "SUCCESS", ended=True)


class Jobs:
    """Stands for the JobReader: says of every job the same, one after the other."""

    def __init__(self) -> None:
        self.script: list[Any] = [RUNNING, DONE]
        self.asked: list[str] = []

    def read(self, ids: Any, now: float = 0.0) -> dict[str, JobUpdate]:
        self.asked += ids
        found = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(found, Exception):
            raise found
        return dict.fromkeys(ids, found)

    def read_one(self, task_id: str) -> JobUpdate:
        return self.read([task_id])[task_id]

    def forget(self, task_id: str) -> None:
        pass


@pytest.fixture
def jobs_seen(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    from celery_runpod.django import _job_views

    made, app = Jobs(), Celery("project", broker="memory://", set_as_current=False)
    monkeypatch.setattr(job_pages, "JobReader", lambda _: made)
    monkeypatch.setattr(chunk_hub, "hub_of", lambda _: UpdateHub(made.read, every_s=0.01))
    monkeypatch.setattr(job_pages, "places", Places())
    monkeypatch.setattr("celery_runpod._live.watching.LOOK_EVERY_S", 0.001)
    for module in (job_pages, _job_views, celery_runpod.flask):
        monkeypatch.setattr(module, "client_app", lambda: app)
    return made


Hook = Callable[..., Any] | None


class Framework:
    """Asks the views of one framework: the status, headers and body of the answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def get(
        self, path: str, hook: Hook, *, headers: dict[str, str] | None = None, most: int = 4, multithread: bool = True
    ) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError

    def forbid(self) -> Hook:
        """A hook that refuses in the framework's own manner."""
        raise NotImplementedError


class FlaskViews(Framework):
    def get(
        self, path: str, hook: Hook, *, headers: dict[str, str] | None = None, most: int = 4, multithread: bool = True
    ) -> tuple[int, dict[str, str], bytes]:
        app = Flask("shop")
        RunPod(app, may_see=hook, most_streams=most)
        answer = app.test_client().get(path, headers=headers, environ_overrides={"wsgi.multithread": multithread})
        return answer.status_code, dict(answer.headers), answer.data

    def forbid(self) -> Hook:
        return lambda request, task_id: abort(403)


class DjangoViews(Framework):
    def set(self, hook: Hook, most: int) -> None:
        from django.conf import settings

        self._monkeypatch.setattr(settings, "RUNPOD", {"MAY_SEE": hook, "MOST_STREAMS": most})

    def get(
        self, path: str, hook: Hook, *, headers: dict[str, str] | None = None, most: int = 4, multithread: bool = True
    ) -> tuple[int, dict[str, str], bytes]:
        from django.test import Client

        self.set(hook, most)
        extra: dict[str, Any] = {"wsgi.multithread": multithread}
        answer = Client().get(path, headers=headers, **extra)
        body = b"".join(answer.streaming_content) if answer.streaming else answer.content
        answer.close()
        return answer.status_code, dict(answer.headers), body

    def forbid(self) -> Hook:
        from django.core.exceptions import PermissionDenied

        def refuse(request: Any, task_id: str) -> bool:
            raise PermissionDenied

        return refuse


class DjangoAsgiViews(DjangoViews):
    def get(
        self,
        path: str,
        hook: Hook,
        *,
        headers: dict[str, str] | None = None,
        most: int = 2_000,
        multithread: bool = True,
    ) -> tuple[int, dict[str, str], bytes]:
        from django.test import AsyncClient

        self.set(hook, most)

        async def asked() -> tuple[int, dict[str, str], bytes]:
            answer = await AsyncClient().get(path, headers=headers)
            body = b"".join([part async for part in answer]) if answer.streaming else answer.content
            return answer.status_code, dict(answer.headers), body

        return asyncio.run(asyncio.wait_for(asked(), 30))


KINDS = {"flask": FlaskViews, "django": DjangoViews, "django-asgi": DjangoAsgiViews}
assert django_project.urlpatterns


@pytest.fixture(params=KINDS)
def views(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, jobs_seen: Jobs) -> Framework:
    return KINDS[request.param](monkeypatch)


def yes(request: Any, task_id: str) -> bool:
    return True


def events(body: bytes) -> Iterator[dict[str, str]]:
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in lines:
            yield lines


PATHS = ("/runpod/job", "/runpod/job/events")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("hook", "status"),
    [
        (None, 403),
        (lambda request, task_id: False, 404),
        (lambda request, task_id: None, 404),
        (lambda request, task_id: "yes", 404),
        (lambda request, task_id: 1, 404),
    ],
    ids=["none is set", "it says no", "it forgot to return", "a text", "a number"],
)
def test_who_is_not_allowed_sees_nothing(views: Framework, jobs_seen: Jobs, path: str, hook: Hook, status: int) -> None:
    found, _, body = views.get(f"{path}?task=t1", hook)
    assert (found, jobs_seen.asked) == (status, [])
    assert b"IN_PROGRESS" not in body


@pytest.mark.parametrize("path", PATHS)
def test_the_hook_may_refuse_as_its_framework_does(views: Framework, jobs_seen: Jobs, path: str) -> None:
    assert views.get(f"{path}?task=t1", views.forbid())[0] == 403
    assert jobs_seen.asked == []


@pytest.mark.parametrize("path", PATHS)
def test_an_asynchronous_hook_is_awaited(views: Framework, path: str) -> None:
    async def no(request: Any, task_id: str) -> bool:
        return False

    async def allowed(request: Any, task_id: str) -> bool:
        return task_id == "t1"

    assert views.get(f"{path}?task=t1", no)[0] == 404
    assert views.get(f"{path}?task=t1", allowed)[0] == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("?task=", 400), ("?task=a%00b", 404), ("?task=a%0Ab", 404), (f"?task={'x' * 513}", 404)],
    ids=["none", "empty", "NUL", "line break", "too long"],
)
def test_a_task_id_of_any_text(views: Framework, jobs_seen: Jobs, path: str, query: str, status: int) -> None:
    assert views.get(path + query, yes)[0] == status
    assert jobs_seen.asked == []


@pytest.mark.parametrize(
    "odd", ["a b", "..%2F..%2Fetc", "%7Bx%7D:job:*", "%E2%98%83", "%22%3E%3Cscript%3E", "%ED%A0%80"]
)
def test_odd_task_ids_are_only_looked_up(views: Framework, jobs_seen: Jobs, odd: str) -> None:
    status, headers, _ = views.get(f"/runpod/job?task={odd}", yes)
    assert status == 200 and len(jobs_seen.asked) == 1
    assert headers["Content-Type"] == "application/json"


def test_the_status_is_json_that_nobody_keeps(views: Framework) -> None:
    status, headers, body = views.get("/runpod/job?task=t1", yes)
    assert (status, headers["Cache-Control"], headers["X-Content-Type-Options"]) == (200, "no-store", "nosniff")
    assert json.loads(body)["progress"] == "<b>3</b>"


def test_the_events_are_each_change_and_the_end(views: Framework) -> None:
    status, headers, body = views.get("/runpod/job/events?task=t1", yes)
    assert status == 200 and headers["Content-Type"].startswith("text/event-stream")
    assert "no-store" in headers["Cache-Control"] and headers["X-Accel-Buffering"] == "no"
    assert body.startswith(b"retry: 3000\n\n")
    found = list(events(body))
    assert [json.loads(one["data"])["state"] for one in found] == ["IN_PROGRESS", "SUCCESS"]
    assert [one["id"] for one in found] == [event_id(RUNNING), event_id(DONE)]
    assert job_pages.places.taken == 0


def test_a_browser_that_comes_again_is_not_sent_what_it_has(views: Framework) -> None:
    _, _, body = views.get("/runpod/job/events?task=t1", yes, headers={"Last-Event-ID": event_id(RUNNING)})
    assert [json.loads(one["data"])["state"] for one in events(body)] == ["SUCCESS"]
    status, _, body = views.get("/runpod/job/events?task=t1", yes, headers={"Last-Event-ID": event_id(DONE)})
    assert (status, body) == (204, b"")
    _, _, body = views.get("/runpod/job/events?task=t1", yes, headers={"Last-Event-ID": "of anybody's making"})
    assert b"anybody" not in body and list(events(body))


class KeptChunks:
    """A stream with three chunks."""

    entries = tuple(Entry(f"{n}-0", "0.1", 1, n, "chunk", json.dumps(f"<i>{n}</i>")) for n in (1, 2, 3))

    def read(self, places: Any, *, count: int = 500, block_s: float = 0.0) -> dict[Any, list[Entry]]:
        found = {(e, t): [one for one in self.entries if one.number > int(after[0])][:count] for e, t, after in places}
        return {place: some for place, some in found.items() if some}

    def newest(self, places: Any) -> dict[Any, Entry | None]:
        return dict.fromkeys(places, self.entries[-1])

    def holds(self, endpoint: str, task_id: str, entry_id: str) -> Entry | None:
        return next((one for one in self.entries if one.id == entry_id), None)

    def noted(self, endpoint: str, task_id: str) -> int:
        return len(self.entries)


@pytest.fixture
def streamed(jobs_seen: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (chunks, chunk_hub):
        monkeypatch.setattr(module, "source_of", lambda app: KeptChunks())
        monkeypatch.setattr(module, "endpoint_of", lambda app, task_id: "e1")
    running, done = (replace(one, streamed=True) for one in (RUNNING, DONE))
    jobs_seen.script = [running] * 20 + [done]


@pytest.mark.usefixtures("streamed")
def test_chunks_are_events_before_the_end_and_a_browser_goes_on_where_it_stood(views: Framework) -> None:
    _, _, body = views.get("/runpod/job/events?task=t1", yes)
    found = list(events(body))
    said = [json.loads(one["data"]) for one in found if one["event"] == "chunk"]
    assert [one["output"] for one in said] == ["<i>1</i>", "<i>2</i>", "<i>3</i>"]
    assert (
        found[-1]["event"] == "update" and found[-1]["id"].startswith("3-0_") and json.loads(found[-1]["data"])["ended"]
    )
    (second,) = [one["id"] for one in found if one["event"] == "chunk" and "<i>2</i>" in one["data"]]
    _, _, body = views.get("/runpod/job/events?task=t1", yes, headers={"Last-Event-ID": second})
    again = [json.loads(one["data"])["output"] for one in events(body) if one["event"] == "chunk"]
    assert again == ["<i>3</i>"]


@pytest.mark.usefixtures("streamed")
def test_where_events_do_not_get_through_the_status_has_the_chunks(views: Framework) -> None:
    def asked(query: str) -> Any:
        return json.loads(views.get(f"/runpod/job?task=t1{query}", yes)[2])

    assert "chunks" not in asked("")
    assert [one["id"] for one in asked("&after=")["chunks"]] == ["1-0", "2-0", "3-0"]
    assert [one["output"] for one in asked("&after=2-0")["chunks"]] == ["<i>3</i>"]
    assert asked("&after=3-0")["chunks"] == [] and len(asked("&after=of+anybodys+making")["chunks"]) == 3


def test_silence_is_broken_by_comments(views: Framework, jobs_seen: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_pages, "HEARTBEAT_S", 0.02)
    jobs_seen.script = [RUNNING] * 60 + [DONE]
    _, _, body = views.get("/runpod/job/events?task=t1", yes)
    assert b"\n\n: \n\n" in body and len(list(events(body))) == 2


def test_an_update_that_shows_a_browser_nothing_new_breaks_the_silence_too(views: Framework, jobs_seen: Jobs) -> None:
    large = [replace(RUNNING, progress=f"{number}" * 70_000) for number in range(60)]
    jobs_seen.script = [*large, DONE]
    _, _, body = views.get("/runpod/job/events?task=t1", yes)
    assert len(list(events(body))) == 2 and b": \n\n" in body


def test_a_stream_does_not_live_for_ever(views: Framework, jobs_seen: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WSGI_LIFE_S", "ASGI_LIFE_S", "HEARTBEAT_S"):
        monkeypatch.setattr(job_pages, name, 0.02)
    jobs_seen.script = [RUNNING]
    _, _, body = views.get("/runpod/job/events?task=t1", yes)
    assert [json.loads(one["data"])["ended"] for one in events(body)] == [False]
    assert job_pages.places.taken == 0


@pytest.mark.parametrize("path", PATHS)
def test_a_store_that_is_away(views: Framework, jobs_seen: Jobs, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_runpod._live.watching.PATIENCE_S", 0.0)
    monkeypatch.setattr(chunk_hub, "hub_of", lambda _: UpdateHub(jobs_seen.read, every_s=0.01, patience_s=0.0))
    jobs_seen.script = [RedisConnectionError("redis://secret@host is away")]
    status, headers, body = views.get(f"{path}?task=t1", yes)
    assert b"secret" not in body
    if path == "/runpod/job":
        assert (status, headers["Retry-After"]) == (503, "10")
    else:
        # The stream ends, and the browser comes again.
        assert (status, body, job_pages.places.taken) == (200, b"retry: 3000\n\n", 0)


def test_no_more_streams_than_there_are_places(views: Framework, jobs_seen: Jobs) -> None:
    status, headers, body = views.get("/runpod/job/events?task=t1", yes, most=0)
    assert (status, headers["Retry-After"]) == (503, "10") and jobs_seen.asked == []
    assert b"too many" in body
    assert views.get("/runpod/job?task=t1", yes, most=0)[0] == 200, "the status is asked for instead"


@pytest.mark.parametrize("kind", ["flask", "django"])
def test_a_server_with_one_thread_serves_no_stream(kind: str, monkeypatch: pytest.MonkeyPatch, jobs_seen: Jobs) -> None:
    assert KINDS[kind](monkeypatch).get("/runpod/job/events?task=t1", yes, multithread=False)[0] == 503


def test_only_get_is_allowed(jobs_seen: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.test import Client

    DjangoViews(monkeypatch).set(yes, 4)
    app = Flask("shop")
    RunPod(app, may_see=yes)
    for path in PATHS:
        assert Client().post(f"{path}?task=t1").status_code == 405
        assert app.test_client().post(f"{path}?task=t1").status_code == 405


@pytest.mark.parametrize("kind", ["django", "django-asgi"])
def test_a_stream_holds_no_connection_to_the_database(
    kind: str, monkeypatch: pytest.MonkeyPatch, jobs_seen: Jobs
) -> None:
    from celery_runpod.django import _job_views

    class Connection:
        def __init__(self, in_atomic_block: bool) -> None:
            self.in_atomic_block, self.closed = in_atomic_block, False

        def close(self) -> None:
            self.closed = True

    class Connections:
        def all(self, initialized_only: bool) -> list[Connection]:
            assert initialized_only
            return made

    # That of a test case, or of a view around this one, is in a transaction.
    made = [Connection(False), Connection(True)]
    monkeypatch.setattr(_job_views, "connections", Connections())
    assert KINDS[kind](monkeypatch).get("/runpod/job/events?task=t1", yes)[0] == 200
    assert [one.closed for one in made] == [True, False]


# Places


def bounded(most: int) -> Any:
    app = Celery("project", broker="memory://", set_as_current=False)
    return job_pages.wsgi_stream("t1", None, app, most, {"wsgi.multithread": True})


def test_a_place_is_free_again_however_a_stream_goes(jobs_seen: Jobs) -> None:
    jobs_seen.script = [RUNNING]
    one, two = bounded(2), bounded(2)
    assert one is not None and two is not None and bounded(2) is None
    one.close()  # before it was read, as a server does whose browser has gone
    one.close()
    assert job_pages.places.taken == 1
    three = bounded(2)
    assert next(three) == b"retry: 3000\n\n"
    del two  # a response that was thrown away
    assert job_pages.places.taken == 1
    jobs_seen.script = [DONE]
    assert len(list(three)) == 1 and job_pages.places.taken == 0


class OpenConnection:
    """The socket that a server gives with a request."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = [None]

    def gettimeout(self) -> float | None:
        return self.timeouts[-1]

    def settimeout(self, value: float | None, /) -> None:
        self.timeouts.append(value)

    def shutdown(self, how: int, /) -> None:
        self.timeouts.append(-1.0)


@pytest.mark.parametrize("server", ["gunicorn.socket", "werkzeug.socket"])
def test_a_send_to_a_browser_is_bounded_while_a_stream_is_open(jobs_seen: Jobs, server: str) -> None:
    made = OpenConnection()
    app = Celery("project", broker="memory://", set_as_current=False)
    stream = job_pages.wsgi_stream("t1", None, app, 2, {"wsgi.multithread": True, server: made})
    assert made.timeouts == [None, job_pages.SEND_S]
    assert stream is not None and len(list(stream)) == 3
    assert made.timeouts == [None, job_pages.SEND_S, None]


def test_a_connection_whose_browser_took_nothing_is_shut(jobs_seen: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("project", broker="memory://", set_as_current=False)
    now = [100.0]
    monkeypatch.setattr(job_pages.time, "monotonic", lambda: now[0])
    for taken_within_s, shut in ((1.0, []), (job_pages.SEND_S, [-1.0])):
        made = OpenConnection()
        stream = job_pages.wsgi_stream("t1", None, app, 2, {"wsgi.multithread": True, "gunicorn.socket": made})
        assert stream is not None and next(stream)
        now[0] += taken_within_s
        stream.close()  # as a server does after a send that failed
        assert made.timeouts[3:] == shut


@pytest.mark.usefixtures("streamed")
def test_large_events_are_sent_in_pieces(views: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_pages, "PIECE", 7)
    _, _, body = views.get("/runpod/job/events?task=t1", yes)
    assert [json.loads(one["data"])["output"] for one in events(body) if one["event"] == "chunk"][-1] == "<i>3</i>"


def test_under_wsgi_a_stream_ends_after_so_many_bytes(jobs_seen: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_pages, "WSGI_BYTES", 1)
    jobs_seen.script = [RUNNING, DONE]
    stream = bounded(1)
    assert stream is not None and len(list(stream)) == 2 and job_pages.places.taken == 0


@pytest.mark.usefixtures("streamed")
def test_who_does_not_read_keeps_no_place(jobs_seen: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [Entry(f"{n}-0", "0.1", 1, n, "chunk", json.dumps("x" * 900_000)) for n in range(1, 10)]
    monkeypatch.setattr(KeptChunks, "entries", tuple(large))
    monkeypatch.setattr(job_pages, "SEND_S", 0.1)
    app = Flask("shop")
    RunPod(app, may_see=yes, most_streams=1)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        browser = socket.socket()
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        with browser:
            browser.connect(("127.0.0.1", server.server_port))
            browser.sendall(b"GET /runpod/job/events?task=t1 HTTP/1.1\r\nHost: shop\r\n\r\n")
            assert browser.recv(1) == b"H"
            eventually(lambda: job_pages.places.taken, 0)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_an_asynchronous_stream_that_is_left_leaves_its_place(jobs_seen: Jobs) -> None:
    jobs_seen.script = [RUNNING]

    async def test() -> None:
        stream = job_pages.asgi_stream("t1", None, Celery("project", broker="memory://", set_as_current=False))
        assert not job_pages.asgi_place(0) and job_pages.asgi_place(1)
        await anext(stream)
        assert (job_pages.places.taken, job_pages.asgi_place(1)) == (1, False)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        assert job_pages.places.taken == 0

    asyncio.run(test())


def test_thousands_of_open_pages_are_served_up_to_the_bound(jobs_seen: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs_seen.script = [RUNNING]

    async def test() -> None:
        hub = UpdateHub(jobs_seen.read, every_s=3600)
        monkeypatch.setattr(chunk_hub, "hub_of", lambda _: hub)
        app = Celery("project", broker="memory://", set_as_current=False)
        streams = []
        while job_pages.asgi_place(None):
            streams.append(job_pages.asgi_stream(f"t{len(streams)}", None, app))
            await anext(streams[-1])
        assert len(streams) == job_pages.ASGI_STREAMS
        firsts = await asyncio.gather(*(anext(stream) for stream in streams))
        assert all(b"IN_PROGRESS" in chunk for chunk in firsts)
        assert len(jobs_seen.asked) == len(streams), "each job is looked at once"
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]
        assert job_pages.places.taken == 0 and job_pages.asgi_place(None)

    asyncio.run(asyncio.wait_for(test(), 60))


# Set up


def test_flasks_extension_without_an_application_and_with_a_decorator(jobs_seen: Jobs) -> None:
    runpod = RunPod(url_prefix="/gpu/")

    @runpod.may_see
    def may_see(request: Any, task_id: str) -> bool:
        return request.headers.get("X-User") == "me"

    app = Flask("shop")
    runpod.init_app(app)
    client = app.test_client()
    assert client.get("/gpu/job?task=t1").status_code == 404
    assert client.get("/gpu/job?task=t1", headers={"X-User": "me"}).status_code == 200
    assert client.get("/gpu/static/celery_runpod.js").status_code == 200
    assert client.get("/gpu/static/..%2f..%2fflask.py").status_code == 404
    assert client.post("/gpu/webhook?task=t1").status_code in (403, 503)


def test_the_blueprint_alone_refuses_everybody(jobs_seen: Jobs) -> None:
    app = Flask("shop")
    app.register_blueprint(jobs, url_prefix="/runpod")
    assert [app.test_client().get(f"{path}?task=t1").status_code for path in PATHS] == [403, 403]


@pytest.mark.parametrize("most", [-1, True, "4", 1.5])
def test_a_wrong_number_of_streams_is_refused(most: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.conf import settings

    from celery_runpod.django._job_views import most_streams

    with pytest.raises(InvalidOption, match="most_streams"):
        RunPod(most_streams=most)
    monkeypatch.setattr(settings, "RUNPOD", {"MOST_STREAMS": most})
    with pytest.raises(ConfigurationError, match="MOST_STREAMS"):
        most_streams()


@pytest.mark.parametrize("wrong", [{"MAY_SEE": "no.such.module"}, {"MAY_SEE": 3}, {"MAY_SEE": "os.name"}, [1]])
def test_a_wrong_hook_is_found_by_djangos_checks(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.conf import settings

    from celery_runpod.django import _system_checks

    app = Celery("project", set_as_current=False)
    app.conf.task_always_eager = True
    monkeypatch.setattr(_system_checks, "client_app", lambda: app)
    assert _system_checks.check_celery_runpod() == []
    monkeypatch.setattr(settings, "RUNPOD", wrong)
    found = _system_checks.check_celery_runpod()
    assert {one.id for one in found} == {"celery_runpod.E004"} and "RUNPOD" in str(found[0].msg)


def test_django_finds_the_script() -> None:
    from django.contrib.staticfiles import finders

    assert finders.find("celery_runpod/celery_runpod.js")
