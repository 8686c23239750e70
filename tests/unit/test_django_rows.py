"""A row that is a job keeps how the job ended: once, whatever comes first. On SQLite, and on PostgreSQL where it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from celery import Celery, chain, states
from celery.app.trace import build_tracer
from celery.backends.redis import RedisBackend
from celery.exceptions import Retry
from django.core import serializers
from django.db import connections, transaction
from kombu.transport.memory import Channel
from redis.exceptions import RedisError

from celery_runpod import Endpoint, JobResult, errors
from celery_runpod._protocol import JOB_ENDED, RUN
from celery_runpod._publish import caller_task
from celery_runpod.django import _ended_task, _project_rows
from celery_runpod.django.signals import job_ended
from celery_runpod.errors import BrokerUnavailable, JobCancelled, JobFailed, NoAnswer, RetryRefused, encode
from celery_runpod.testing import fake_endpoint
from tests import django_project
from tests.django_database import database_of
from tests.django_shop.models import Heard, Picture, Poster, Sketch

sdxl = Endpoint("sdxl")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with database_of(request.param, tmp_path_factory.mktemp("rows")) as settings:
        yield settings


@pytest.fixture
def app(database: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    for model in (Picture, Sketch, Heard):
        model.objects.all().delete()
    Channel.queues.clear()  # the memory of all apps
    made = Celery("shop", broker="memory://", backend="cache+memory://")
    made.conf.task_publish_retry = False

    @made.task(name="shop.save", shared=False)
    def save(output: Any, pk: int) -> Any:
        return pk

    made.set_current()
    made.set_default()
    monkeypatch.setattr(caller_task, "refuse", lambda *_: None)
    with django_project.listening():
        yield made


def end(app: Celery, task_id: str, output: Any = None, error: Exception | None = None) -> None:
    """What follows a job's end: its result is stored, and the own worker takes the message."""
    state = states.SUCCESS if error is None else states.FAILURE
    app.backend.store_result(task_id, output if error is None else error, state)
    hear(app, task_id, state, output, error)


def hear(app: Celery, task_id: str, state: str, output: Any, error: Any) -> None:
    news = {"task_id": task_id, "endpoint": "sdxl", "state": state, "output": output}
    found = app.tasks[JOB_ENDED].apply(kwargs={**news, "error": None if error is None else encode(error)}).result
    assert found is None or isinstance(found, Retry | ConnectionError), found


def test_a_row_becomes_a_job_and_keeps_its_output(app: Celery) -> None:
    picture = Picture.objects.create(prompt="a cat")
    assert (picture.job, picture.job_state) == (None, "")
    result = picture.start_job(sdxl.s(prompt="a cat"))
    found = Picture.objects.get()
    assert (found.task_id, found.job_state, found.job.id) == (result.id, "PENDING", result.id)
    end(app, result.id, {"url": "x"})
    found = Picture.objects.get()
    assert (found.job_state, found.job_result, found.job_exception) == ("SUCCESS", {"url": "x"}, None)
    assert found.job_ended_at is not None and (found.prompt, found.handled) == ("a cat", 1)
    [heard] = Heard.objects.all()
    assert (heard.task_id, heard.endpoint, heard.result) == (result.id, "sdxl", {"url": "x"})


def test_an_unsaved_row_is_saved_with_its_job(app: Celery) -> None:
    picture = Picture(prompt="a dog")
    result = picture.start_job(sdxl.s())
    assert Picture.objects.get().task_id == result.id


def test_an_error_keeps_its_class(app: Celery) -> None:
    picture = Picture.objects.create()
    error = JobFailed("boom", "sdxl", "t", "r1", "ValueError", "Traceback ...", {"a": 1})
    end(app, picture.start_job(sdxl.s()).id, error=error)
    picture.refresh_from_db()
    assert (picture.job_state, picture.job_result) == ("FAILURE", None)
    assert isinstance(picture.job_exception, JobFailed) and picture.job_exception.args == error.args
    assert (picture.job_error["type"], picture.job_error["message"]) == ("JobFailed", str(error))


def test_a_cancelled_job(app: Celery) -> None:
    picture = Picture.objects.create()
    task_id = picture.start_job(sdxl.s()).id
    hear(app, task_id, states.REVOKED, None, JobCancelled("revoked", "sdxl", task_id))
    picture.refresh_from_db()
    assert picture.job_state == "REVOKED" and isinstance(picture.job_exception, JobCancelled)


def test_it_is_published_after_the_commit_and_not_after_a_rollback(app: Celery) -> None:
    def waiting() -> int:
        with app.connection_for_read() as connection:
            return int(connection.default_channel._size("runpod"))

    before = waiting()
    with transaction.atomic():
        Picture.objects.create().start_job(sdxl.s())
        assert waiting() == before
    assert waiting() == before + 1
    with transaction.atomic():
        Picture.objects.create().start_job(sdxl.s())
        transaction.set_rollback(True)
    assert waiting() == before + 1 and Picture.objects.count() == 1


def test_the_end_that_comes_twice_is_handled_once(app: Celery) -> None:
    picture = Picture.objects.create()
    task_id = picture.start_job(sdxl.s()).id
    end(app, task_id, {"n": 1})
    first = Picture.objects.get().job_ended_at
    hear(app, task_id, states.SUCCESS, {"n": 2}, None)
    found = Picture.objects.get()
    assert (found.job_result, found.job_ended_at, found.handled) == ({"n": 1}, first, 1)


def test_two_workers_at_once_handle_it_once(app: Celery) -> None:
    picture = Picture.objects.create()
    task_id = picture.start_job(sdxl.s()).id
    begun, raised = threading.Barrier(2), []

    def work() -> None:
        begun.wait()
        try:
            Picture._note_end(task_id, states.SUCCESS, {"n": 1}, None)
        except Exception as error:
            raised.append(error)
        finally:
            connections["default"].close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (raised, Picture.objects.get().handled) == ([], 1)


def test_the_end_that_comes_before_the_row_is_committed(app: Celery) -> None:
    result = sdxl.delay(prompt="published inside of the transaction")
    with transaction.atomic():
        picture = Picture(prompt="a cat", task_id=result.id)
        picture.save()
        # What the own worker sees meanwhile: nobody is this job.
        app.backend.store_result(result.id, {"url": "x"}, states.SUCCESS)
        assert not Sketch._note_end(result.id, states.SUCCESS, {"url": "x"}, None)
        assert Picture.objects.get().job_state == "PENDING"
    found = Picture.objects.get()
    assert (found.job_state, found.job_result, found.handled) == ("SUCCESS", {"url": "x"}, 1)
    hear(app, result.id, states.SUCCESS, {"url": "x"}, None)
    assert Picture.objects.get().handled == 1


@pytest.mark.parametrize("update_fields", [None, ["task_id"], ["prompt", "task_id"]])
def test_a_task_id_that_is_set_by_hand_makes_the_row_another_job(app: Celery, update_fields: Any) -> None:
    picture = Picture.objects.create()
    end(app, picture.start_job(sdxl.s()).id, {"n": 1})
    picture = Picture.objects.get()
    picture.task_id = sdxl.delay().id
    picture.save(update_fields=update_fields)
    found = Picture.objects.get()
    assert (found.job_state, found.job_result, found.job_ended_at) == ("PENDING", None, None)
    end(app, found.task_id, {"n": 2})
    assert Picture.objects.get().job_result == {"n": 2}


def test_saving_something_else_changes_nothing_of_the_job(app: Celery) -> None:
    picture = Picture.objects.create()
    stale = Picture.objects.get()
    end(app, picture.start_job(sdxl.s()).id, {"n": 1})
    stale.prompt = "written by a view that read the row before"
    stale.save(update_fields=["prompt"])
    only = Picture.objects.only("prompt").get()
    only.prompt = "and with deferred fields"
    only.save()
    assert (Picture.objects.get().job_result, Picture.objects.get().handled) == ({"n": 1}, 1)


@pytest.mark.parametrize("read", ["before the job", "while it ran", "deferred", "refreshed", "by start_job itself"])
@pytest.mark.parametrize("expired", [False, True])
def test_a_save_of_the_whole_row_keeps_the_end_of_its_job(app: Celery, read: str, expired: bool) -> None:
    before = Picture.objects.create(prompt="a cat")
    started = Picture.objects.get()
    result = started.start_job(sdxl.s(prompt="a cat"))
    while_it_ran = Picture.objects.get()
    end(app, result.id, {"url": "x"})
    ended_at = Picture.objects.get().job_ended_at
    if expired:
        app.backend.forget(result.id)
    row = {"before the job": before, "while it ran": while_it_ran, "by start_job itself": started}.get(read, before)
    if read == "deferred":
        row = Picture.objects.only("prompt").get()
        assert row.job is not None  # reads the deferred field
    if read == "refreshed":
        row.refresh_from_db()
    row.prompt = "a dog"
    row.save()
    found = Picture.objects.get()
    assert (found.prompt, found.task_id) == ("a dog", result.id)
    assert (found.job_state, found.job_result, found.job_ended_at) == ("SUCCESS", {"url": "x"}, ended_at)


def test_the_same_task_id_set_by_hand_a_second_time_keeps_the_end(app: Celery) -> None:
    Picture.objects.create()
    stale, task_id = Picture.objects.get(), sdxl.delay().id
    Picture.objects.update(task_id=task_id, job_state="PENDING")
    end(app, task_id, {"n": 1})
    app.backend.forget(task_id)
    stale.task_id = task_id
    stale.save()
    assert (Picture.objects.get().job_result, stale.job_result) == ({"n": 1}, {"n": 1})


def test_a_task_id_set_to_none_makes_the_row_no_job(app: Celery) -> None:
    end(app, Picture.objects.create().start_job(sdxl.s()).id, {"n": 1})
    picture = Picture.objects.only("prompt").get()
    picture.task_id = None
    picture.save()
    found = Picture.objects.get()
    assert (found.task_id, found.job_state, found.job_result, found.job_ended_at) == (None, "", None, None)


def test_fields_of_the_job_that_are_named_are_saved(app: Celery) -> None:
    end(app, Picture.objects.create().start_job(sdxl.s()).id, {"n": 1})
    picture = Picture.objects.get()
    picture.job_result, picture.job_state = {"n": "one"}, "of no use"
    picture.save(update_fields=["job_result"])
    assert (Picture.objects.get().job_result, Picture.objects.get().job_state) == ({"n": "one"}, "SUCCESS")


def test_a_row_whose_job_was_not_committed_stays_what_it_was(app: Celery) -> None:
    picture = Picture.objects.create()
    with transaction.atomic():
        picture.start_job(sdxl.s())
        transaction.set_rollback(True)
    picture.prompt = "saved all the same"
    picture.save()
    assert (Picture.objects.get().task_id, Picture.objects.get().prompt) == (None, "saved all the same")


def test_a_save_inserts_a_row_that_is_not_in_the_table_and_loaddata_writes_every_field(app: Celery) -> None:
    picture = Picture.objects.create(prompt="a cat")
    end(app, picture.start_job(sdxl.s()).id, {"n": 1})
    [copy] = serializers.deserialize("json", serializers.serialize("json", Picture.objects.all()))
    Picture.objects.update(job_state="", job_result=None)
    copy.save()
    picture = Picture.objects.get()
    assert (picture.job_state, picture.job_result) == ("SUCCESS", {"n": 1})
    Picture.objects.all().delete()
    picture.save()
    assert (Picture.objects.get().job_result, Picture.objects.get().task_id) == ({"n": 1}, picture.task_id)


def test_a_row_that_starts_again_does_not_take_the_end_of_its_former_job(app: Celery) -> None:
    picture = Picture.objects.create()
    former, latter = picture.start_job(sdxl.s()).id, picture.start_job(sdxl.s()).id
    end(app, former, {"n": 1})
    assert Picture.objects.get().job_state == "PENDING"
    end(app, latter, {"n": 2})
    assert Picture.objects.get().job_result == {"n": 2}


def test_one_signature_starts_many_rows(app: Celery) -> None:
    call = sdxl.s(prompt="a cat")
    ids = {Picture.objects.create().start_job(call).id for _ in range(3)}
    assert len(ids) == 3 and "task_id" not in call.options


def test_within_a_canvas_the_row_is_the_call(app: Celery) -> None:
    picture = Picture.objects.create()
    result = picture.start_job(sdxl.s(), within=lambda job: chain(job, app.tasks["shop.save"].s(picture.pk)))
    end(app, result.id, {"n": 1})
    assert Picture.objects.get().job_result == {"n": 1}


def test_what_cannot_be_published_is_the_rows_error(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(unconfirmed: bool) -> Any:
        def refuse(*_: Any) -> None:
            raise BrokerUnavailable("broker", "redis://x", "gone", unconfirmed)

        return refuse

    for unconfirmed, state in ((False, "FAILURE"), (True, "PENDING")):
        monkeypatch.setattr(caller_task, "refuse", away(unconfirmed))
        picture = Picture.objects.create()
        with pytest.raises(BrokerUnavailable), transaction.atomic():
            picture.start_job(sdxl.s())
        picture.refresh_from_db()
        assert picture.job_state == state


@pytest.mark.parametrize("wrong", [sdxl, "sdxl", chain(sdxl.s(), sdxl.s())])
def test_only_a_call_of_an_endpoint_can_be_a_row(app: Celery, wrong: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="start_job"):
        Picture.objects.create().start_job(wrong)
    assert Picture.objects.get().task_id is None


def test_a_class_may_keep_no_result(app: Celery) -> None:
    sketch = Sketch.objects.create()
    end(app, sketch.start_job(sdxl.s()).id, {"n": 1})
    assert (Sketch.objects.get().job_state, Sketch.objects.get().job_result) == ("SUCCESS", None)


def test_what_a_database_refuses_in_json_is_replaced(app: Celery) -> None:
    picture = Picture.objects.create()
    with job_ended.lock:
        job_ended.receivers = [one for one in job_ended.receivers if one[0][0] == "celery_runpod.rows"]
        job_ended.sender_receivers_cache.clear()
    end(app, picture.start_job(sdxl.s()).id, {"a\x00": ["\ud800x", float("nan"), 1.5, True, None]})
    assert Picture.objects.get().job_result == {"a\ufffd": ["\ufffdx", None, 1.5, True, None]}


def test_a_receiver_that_raises_is_called_again_and_nothing_is_saved_twice(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Picture.objects.create()
    task_id, fails = picture.start_job(sdxl.s()).id, [True]
    handle = Picture.job_has_ended

    def fails_once(self: Picture, result: Any, error: Any) -> None:
        handle(self, result, error)
        if fails:
            fails.clear()
            raise ConnectionError("the shop's storage is away")

    monkeypatch.setattr(Picture, "job_has_ended", fails_once)
    monkeypatch.setattr(_ended_task, "FIRST_REPEAT_S", 0.0)
    end(app, task_id, {"n": 1})
    found = Picture.objects.get()
    assert (found.job_result, found.handled, fails) == ({"n": 1}, 1, [])
    assert Heard.objects.filter(task_id=task_id).count() == 2  # at least once


def test_a_receiver_that_always_raises_is_given_up(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    def always(*_: Any) -> None:
        raise ConnectionError("away")

    picture = Picture.objects.create()
    task_id = picture.start_job(sdxl.s()).id
    monkeypatch.setattr(Picture, "job_has_ended", always)
    monkeypatch.setattr(_ended_task, "FIRST_REPEAT_S", 0.0)
    end(app, task_id, {"n": 1})
    assert Picture.objects.get().job_state == "PENDING"
    assert Heard.objects.count() == 1 + _ended_task.MOST_REPEATS


@pytest.mark.parametrize("retries", [0, _ended_task.MOST_REPEATS])
def test_a_message_whose_worker_was_killed_is_repeated_later_and_not_for_ever(app: Celery, retries: int) -> None:
    task = app.tasks[JOB_ENDED]
    tracer = build_tracer(task.name, task, app=app)
    news = {"task_id": "t1", "endpoint": "sdxl", "state": "SUCCESS", "output": 1, "error": None}
    request = {"id": "m1", "retries": retries, "delivery_info": {"redelivered": True}, "args": (), "kwargs": news}
    tracer("m1", (), news, request=request)
    assert Heard.objects.count() == 0
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("celery", no_ack=True)
    if retries:
        assert message is None
    else:
        assert message.headers["retries"] == 1 and message.headers["eta"] and message.decode()[1] == news


def catch_up(app: Celery) -> None:
    app.tasks[_ended_task.CATCH_UP].apply(kwargs={"asked_at": 0.0}, throw=True)


def test_a_worker_that_starts_saves_the_ends_that_were_lost(app: Celery) -> None:
    lost, still_open = Picture.objects.create(), Picture.objects.create()
    sketch = Sketch.objects.create()
    for row, output in ((lost, {"n": 1}), (sketch, {"n": 2})):
        app.backend.store_result(row.start_job(sdxl.s()).id, output, states.SUCCESS)
    still_open.start_job(sdxl.s())
    catch_up(app)
    assert [one.job_state for one in (*Picture.objects.order_by("pk"), *Sketch.objects.all())] == [
        *("SUCCESS", "PENDING"),
        "SUCCESS",
    ]
    catch_up(app)
    assert Picture.objects.get(pk=lost.pk).handled == 1


def test_rows_are_caught_up_with_in_batches(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Picture.objects.create() for _ in range(120)]
    for number, row in enumerate(rows):
        row.start_job(sdxl.s())
        if number % 60 == 0:
            app.backend.store_result(row.task_id, {"n": number}, states.SUCCESS)
        elif number % 2:
            app.backend.store_result(row.task_id, {"reason": "BUDGET"}, "WAITING")
    reads: list[int] = []
    get, mget = app.backend.get, app.backend.mget
    monkeypatch.setattr(app.backend, "get", lambda key: reads.append(1) or get(key))
    monkeypatch.setattr(app.backend, "mget", lambda keys: reads.append(len(keys)) or mget(keys))
    assert Picture.catch_up_jobs() == 2
    assert max(reads) > 1 and len(reads) < 20
    assert Picture.objects.filter(job_state="SUCCESS").count() == 2


class Passes:
    """The task that catches up, at times that the test sets; results are in Redis."""

    def __init__(self, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app, self.now, self.made = app, 1_790_000_000.0, 0
        backend = RedisBackend(app=app, url="redis://")
        backend.__dict__["client"] = fakeredis.FakeRedis()
        monkeypatch.setattr(_ended_task, "backend_in_redis", lambda _: backend)
        monkeypatch.setattr(_ended_task, "time", SimpleNamespace(time=lambda: self.now))
        monkeypatch.setattr(_project_rows, "job_models", self._pass)

    def _pass(self) -> list[Any]:
        self.made += 1
        return []

    def must_come_again(self, message_id: str, asked_at: float) -> bool:
        task, kwargs = self.app.tasks[_ended_task.CATCH_UP], {"asked_at": asked_at}
        request = {"id": message_id, "retries": 0, "delivery_info": {}, "args": (), "kwargs": kwargs}
        ended = build_tracer(task.name, task, app=self.app)(message_id, (), kwargs, request=request)
        return ended.info is not None and ended.info.state == states.RETRY


def test_of_workers_that_start_together_one_catches_up_for_all(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Passes(app, monkeypatch)
    assert not passes.must_come_again("m1", passes.now)
    # The pass may have begun before what they look for was lost: a second one serves them all.
    assert [passes.must_come_again(one, passes.now) for one in ("m2", "m3")] == [True, True]
    assert not passes.must_come_again("m4", passes.now - 60)
    assert passes.made == 1
    # Its worker was killed.
    assert not passes.must_come_again("m1", passes.now)
    assert passes.made == 2


@pytest.mark.parametrize("how", ["its receiver raises", "its result cannot be decoded"])
def test_a_row_that_cannot_be_caught_up_with_stops_no_other(
    app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    rows = [Picture.objects.create(prompt=f"p{n}") for n in range(4)]
    for row in rows:
        app.backend.store_result(row.start_job(sdxl.s()).id, {"n": 1}, states.SUCCESS)
    handle = Picture.job_has_ended

    def raises(self: Picture, result: Any, error: Any) -> None:
        handle(self, result, error)
        if self.prompt == "p1":
            raise RedisError("the shop's own cache is away")

    if how == "its receiver raises":
        monkeypatch.setattr(Picture, "job_has_ended", raises)
    else:
        app.backend.set(app.backend.get_key_for_task(rows[1].task_id), b"{cut")
    catch_up(app)
    assert [one.job_state for one in Picture.objects.order_by("pk")] == ["SUCCESS", "PENDING", "SUCCESS", "SUCCESS"]
    assert rows[1].task_id in caplog.text


def test_a_catch_up_says_that_the_result_backend_is_away(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise RedisError("away")

    Picture.objects.create().start_job(sdxl.s())
    monkeypatch.setattr(app.backend, "mget", away)
    with pytest.raises(RedisError):
        Picture.catch_up_jobs()


def test_an_error_of_a_task_of_the_projects_own_is_caught_up_with_too(app: Celery) -> None:
    picture = Picture.objects.create()
    app.backend.store_result(picture.start_job(sdxl.s()).id, ValueError("a step before"), states.FAILURE)
    assert picture.catch_up_job() and not picture.catch_up_job()
    assert "ValueError: a step before" in str(picture.job_exception)


def test_own_task_that_fails_ends_the_calls_behind_it(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr("celery_runpod._publish.job_ends.publish_end", lambda app, *news: told.append(news))

    @app.task(name="shop.fails", shared=False)
    def fails(value: Any) -> Any:
        raise ValueError("no")

    behind = {"task": RUN, "kwargs": {"endpoint": "sdxl"}, "options": {"task_id": "behind"}}
    behind["options"]["headers"] = {"runpod_ended_queue": "celery"}  # type: ignore[index]
    tracer = build_tracer(fails.name, fails, app=app)
    tracer("t0", (1,), {}, request={"id": "t0", "delivery_info": {}, "chain": [behind]})
    [(queue, task_id, endpoint, how)] = told
    assert (queue, task_id, endpoint, how.state) == ("celery", "behind", "sdxl", "FAILURE")
    assert "ValueError: no" in str(how.error)


@pytest.mark.parametrize("how", ["output", "error"])
def test_a_fake_ends_the_row_in_a_test(app: Celery, how: str) -> None:
    given = {"output": {"n": 1}} if how == "output" else {"error": JobFailed("boom")}
    with fake_endpoint("sdxl", **given):
        picture = Picture.objects.create()
        picture.start_job(sdxl.s())
    picture.refresh_from_db()
    assert picture.job_state == ("SUCCESS" if how == "output" else "FAILURE")
    assert picture.handled == 1


def test_the_rows_job_is_the_result(app: Celery) -> None:
    picture = Picture.objects.create()
    picture.start_job(sdxl.s())
    assert isinstance(Picture.objects.get().job, JobResult)


def run_again_once(monkeypatch: pytest.MonkeyPatch, lost: bool) -> list[str]:
    """The worker runs the job again as task "again", once. The answer to the first request may be lost. Returns what it
    will have been asked for."""
    asked: list[str] = []

    def retry(task_id: str, **_: Any) -> JobResult:
        asked.append(task_id)
        if len(asked) > 1:
            raise RetryRefused(task_id, "it was run again already, as task again", "again")
        if lost:
            raise NoAnswer("runpod.retry", 10.0, True)
        return JobResult("again")

    monkeypatch.setattr("celery_runpod.django.models.retry", retry)
    return asked


def failed(app: Celery) -> Picture:
    picture = Picture.objects.create()
    end(app, picture.start_job(sdxl.s()).id, error=JobFailed("boom"))
    return Picture.objects.get()


def test_a_retry_whose_answer_was_lost_is_the_rows_job_at_the_next_call(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_again_once(monkeypatch, lost=True)
    picture = failed(app)
    with pytest.raises(NoAnswer):
        picture.retry_job()
    assert Picture.objects.get().job_state == "FAILURE"
    # It ends meanwhile, and no row is this job.
    end(app, "again", {"n": 1})
    again = picture.retry_job()
    assert again is not None and again.id == "again"
    found = Picture.objects.get()
    assert (found.task_id, found.job_state, found.job_result) == ("again", "SUCCESS", {"n": 1})


def test_in_a_transaction_a_retry_is_asked_for_after_the_commit_and_not_after_a_rollback(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = run_again_once(monkeypatch, lost=False)
    picture = failed(app)
    with transaction.atomic():
        assert picture.retry_job() is None
        transaction.set_rollback(True)
    assert (asked, Picture.objects.get().job_state) == ([], "FAILURE")
    former = picture.task_id
    with transaction.atomic():
        assert picture.retry_job(force=True) is None
        assert asked == []
    assert (asked, picture.task_id) == ([former], "again")
    assert (Picture.objects.get().task_id, Picture.objects.get().job_state) == ("again", "PENDING")


def test_a_stale_row_that_is_run_again_does_not_take_the_row_from_its_newer_job(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_again_once(monkeypatch, lost=False)
    stale = failed(app)
    newer = Picture.objects.get().start_job(sdxl.s()).id
    stale.retry_job()
    assert (Picture.objects.get().task_id, stale.task_id) == (newer, newer)


def test_a_retry_that_is_refused_leaves_the_row_as_it_is(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(task_id: str, **_: Any) -> JobResult:
        raise RetryRefused(task_id, "its input is not kept any more")

    monkeypatch.setattr("celery_runpod.django.models.retry", refuse)
    with pytest.raises(RetryRefused):
        failed(app).retry_job()
    with pytest.raises(RetryRefused), transaction.atomic():
        Picture.objects.get().retry_job()
    assert Picture.objects.get().job_state == "FAILURE"


@pytest.mark.parametrize("by", ["the message", "the catch-up"])
def test_of_models_that_inherit_the_row_of_the_latter_hears_of_the_end(app: Celery, by: str) -> None:
    poster, picture = Poster.objects.create(), Picture.objects.create()
    for row in (poster, picture):
        task_id = row.start_job(sdxl.s()).id
        app.backend.store_result(task_id, {"n": 1}, states.SUCCESS)
        if by == "the message":
            hear(app, task_id, states.SUCCESS, {"n": 1}, None)
    if by == "the catch-up":
        catch_up(app)
    poster, picture = Poster.objects.get(), Picture.objects.get(pk=picture.pk)
    assert (poster.job_state, poster.job_result, poster.paper, poster.handled) == ("SUCCESS", {"n": 1}, "printed", 0)
    assert (picture.job_state, picture.handled) == ("SUCCESS", 1)
    poster.prompt = "saved later"
    poster.save()
    assert Poster.objects.get().job_result == {"n": 1}
