"""The code of docs/live.md runs as it stands there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, current_app, states

import celery_runpod
from celery_runpod import JobResult, _flow, results
from celery_runpod._live import chunks, job_reader, update_hub
from celery_runpod.errors import JobFailed
from celery_runpod.options import Options
from tests.builders import Bench

TEXT = (Path(__file__).resolve().parents[2] / "docs/live.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def block(part: str) -> str:
    """The one block that holds this text."""
    [found] = [one for one in BLOCKS if part in one]
    return found


def run(part: str, **names: Any) -> dict[str, Any]:
    exec(compile(block(part), "docs/live.md", "exec"), names)
    return names


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A project whose calls are not published; what they end with is stored by the test."""
    made = Bench()
    for module in (results, _flow, job_reader, chunks):
        monkeypatch.setattr(module, "store_of", lambda app: made.store)

    def apply_async(self: Any, *_: Any, **__: Any) -> JobResult:
        return JobResult("t1", app=made.app)

    monkeypatch.setattr(celery_runpod.Endpoint, "apply_async", apply_async)
    return made


def test_the_loop_over_updates(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.app.backend.store_result("t1", {"image": "x"}, states.SUCCESS)
    run("result.watch(timeout=600)")
    assert capsys.readouterr().out == "SUCCESS None None None\n{'image': 'x'}\n"
    bench.app.backend.store_result("t1", JobFailed("no memory"), states.FAILURE)
    bench.app.backend.forget("t1")
    bench.app.backend.store_result("t1", JobFailed("no memory"), states.FAILURE)
    run("result.watch(timeout=600)")
    assert "it failed: no memory" in capsys.readouterr().out


def streamed(bench: Bench) -> None:
    """The job of the calls, which has yielded two words and ended."""
    bench.accepted(options=Options(deadline=600.0, stream=True))
    job = bench.record()
    assert bench.store.streams.begin_look(job, "look", bench.now, bench.now + 10) == "begun"
    assert bench.store.streams.end_look(job, "look", ['"Once"', '" upon"'], bench.now) == "kept"
    bench.redis.hset(bench.store.keys.job("e1", "t1"), mapping={"state": "COMPLETED", "outcome": "{}"})
    bench.app.backend.store_result("t1", ["Once", " upon"], states.SUCCESS)


def test_the_loop_over_chunks(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    streamed(bench)
    run("result.stream(timeout=600)")
    assert capsys.readouterr().out == "Once upon"


def test_the_loop_over_chunks_in_async_code(bench: Bench) -> None:
    streamed(bench)
    tell, sent = run("result.astream()")["tell"], []

    async def send(text: str) -> None:
        sent.append(text)

    asyncio.run(tell(JobResult("t1", app=bench.app), send))
    assert sent == ["Once", " upon"]


def test_the_loop_in_async_code(bench: Bench) -> None:
    bench.app.backend.store_result("t1", 7, states.SUCCESS)
    follow = run("result.awatch")["follow"]
    update = asyncio.run(follow(JobResult("t1", app=bench.app)))
    assert (update.ended, update.result) == (True, 7)
    assert update_hub._hubs == {}


def test_the_whole_chain(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[Any] = []
    monkeypatch.setattr(_flow, "publish_cancel", lambda app, ids, scope: cancelled.append((set(ids), scope)))

    class Published:
        """Stands for the chain: its result, without a broker."""

        def __init__(self, *steps: Any) -> None:
            self.steps = steps

        def delay(self) -> JobResult:
            first = JobResult("a", app=bench.app)
            return JobResult("b", app=bench.app, parent=first)

    monkeypatch.setattr("celery.chain", Published)
    monkeypatch.setattr(celery_runpod.endpoint, "client_app", lambda: bench.app)
    names = run("flow = JobResult.of(result)")
    assert [step.id for step in names["flow"].steps] == ["a", "b"]
    assert cancelled == [({"a", "b"}, "tree")]


def test_djangos_parts() -> None:
    from django.test import RequestFactory
    from django.urls import resolve

    from tests import django_project

    assert django_project.urlpatterns
    settings = run("INSTALLED_APPS")
    assert set(settings["RUNPOD"]) == {"MAY_SEE"} and "celery_runpod.django" in settings["INSTALLED_APPS"]
    [included] = run("urlpatterns = ")["urlpatterns"]
    for path, name in (("runpod/job", "job"), ("runpod/job/events", "job_events")):
        found = included.resolve(path)
        assert found is not None and found.url_name == name
        assert resolve(f"/{path}").func is found.func
    may_see = run("request.user.is_authenticated")["may_see"]
    request: Any = RequestFactory().get("/")
    asked: list[dict[str, str]] = []

    def mine(**given: str) -> Any:
        asked.append(given)
        return SimpleNamespace(exists=lambda: True)

    request.user = SimpleNamespace(is_authenticated=True, pictures=SimpleNamespace(filter=mine))
    assert may_see(request, "t1") is True and asked == [{"task_id": "t1"}]
    request.user.is_authenticated = False
    assert may_see(request, "t1") is False


@pytest.fixture
def kept_default_app() -> Iterator[None]:
    default: Celery = current_app._get_current_object()
    yield
    default.set_default()


@pytest.mark.usefixtures("kept_default_app")
def test_flasks_application(monkeypatch: pytest.MonkeyPatch) -> None:
    from celery_runpod._live import job_pages
    from celery_runpod._live.job_update import JobUpdate

    names = run("runpod = RunPod(app, celery=celery)", __name__="shop")
    asked: list[Any] = []

    class JobReader:
        def __init__(self, app: Celery) -> None:
            asked.append(app)

        def read_one(self, task_id: str) -> JobUpdate:
            return JobUpdate(task_id, "IN_QUEUE")

    monkeypatch.setattr(job_pages, "JobReader", JobReader)
    client = names["app"].test_client()
    assert client.get("/runpod/job?task=t1").status_code == 404
    with client.session_transaction() as session:
        session["jobs"] = ["t1"]
    assert client.get("/runpod/job?task=t1").json["state"] == "IN_QUEUE"
    assert client.get("/runpod/job?task=t2").status_code == 404
    assert asked == [names["celery"]]
    assert b"runpod-job" in client.get("/runpod/static/celery_runpod.js").data


def test_every_block_is_run() -> None:
    run_here = (
        "result.watch(timeout=600)",
        "result.awatch",
        "JobResult.of(result)",
        "INSTALLED_APPS",
        "urlpatterns = ",
        "result.stream(timeout=600)",
        "result.astream()",
    )
    run_here += ("request.user.is_authenticated", "RunPod(app, celery=celery)")
    assert sorted(BLOCKS) == sorted(block(part) for part in run_here)
