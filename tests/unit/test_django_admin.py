"""The list of jobs in Django's admin: who sees it, what it shows, cancel and retry."""

from __future__ import annotations

from tests import django_project  # noqa: F401 - configures Django, before models are imported

# isort: split
import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from django.apps import apps
from django.contrib import admin
from django.db import connections
from django.test import Client, override_settings
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod._store.states import State
from celery_runpod.django import admin as jobs_admin
from celery_runpod.errors import JobFailed, RetryRefused, encode
from celery_runpod.results import JobResult
from tests.builders import ENDPOINT, Bench
from tests.django_database import database_of
from tests.django_shop import settings as shop
from tests.django_shop.models import Picture

PAGE = "/admin/celery_runpod/job/"


@pytest.fixture(scope="module", autouse=True)
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with (
        database_of("sqlite", tmp_path_factory.mktemp("admin")),
        override_settings(MIDDLEWARE=[*shop.OF_THE_ADMIN, *shop.MIDDLEWARE]),
    ):
        yield


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    project = Celery("project", broker="memory://", backend="cache+memory://", set_as_current=False)
    project.set_default()
    project.set_current()
    monkeypatch.setattr(jobs_admin, "client_app", lambda: project)
    monkeypatch.setattr(jobs_admin, "store_of", lambda _: made.store)
    Picture.objects.all().delete()
    return made


def user(*permissions: str, staff: bool = True) -> Client:
    User, Permission = apps.get_model("auth", "User"), apps.get_model("auth", "Permission")
    User.objects.all().delete()
    made = User.objects.create_user("somebody", password="x", is_staff=staff)
    found = Permission.objects.filter(content_type__app_label__in=("celery_runpod", "shop"), codename__in=permissions)
    assert found.count() == len(permissions)
    made.user_permissions.set(found)
    client = Client()
    client.force_login(made)
    return client


def ended(bench: Bench, task_id: str, error: Exception | None = None, **changes: Any) -> None:
    job = bench.accepted(task_id, **changes)
    outcome = {"output": 1, "error": None if error is None else encode(error), "execution_s": 2.5}
    state = State.COMPLETED if error is None else State.FAILED
    bench.store.record_outcome(job, state, outcome, bench.now, bench.now + 30)
    bench.deliver(task_id)


def shown(client: Client, query: str = "") -> str:
    answer = client.get(PAGE + query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_who_may_not_see_it(bench: Bench) -> None:
    bench.accepted("t1")
    assert Client().get(PAGE).status_code == 302
    assert user("view_job", staff=False).get(PAGE).status_code == 302
    assert user().get(PAGE).status_code == 403
    assert user("cancel_job").get(PAGE).status_code == 403
    seen = shown(user("view_job"))
    assert "t1" in seen and 'name="action"' not in seen
    assert PAGE in shown_index(user("view_job")) and PAGE not in shown_index(user("view_picture"))


def shown_index(client: Client) -> str:
    return client.get("/admin/").content.decode()


def test_open_jobs_with_state_reason_and_progress(bench: Bench) -> None:
    bench.accepted("t1")
    key = bench.store.keys.job(ENDPOINT, "t1")
    progress = json.dumps("<b>half\x1b[2J</b>")
    bench.redis.hset(key, mapping={"reason": "COLD_START", "progress": progress, "name": "sdxl"})
    ended(bench, "t2")
    seen = shown(user("view_job"))
    assert "t1" in seen and "t2" not in seen
    assert "IN_QUEUE (COLD_START)" in seen and "a RunPod worker is being started for it" in seen
    assert "&lt;b&gt;half" in seen and "<b>half" not in seen and "\x1b" not in seen
    assert "No RunPod worker is up" in seen
    assert "t1" in shown(user("view_job"), "?endpoint=sdxl") and "t1" in shown(
        user("view_job"), f"?endpoint={ENDPOINT}"
    )
    assert "No open job of other" in shown(user("view_job"), "?endpoint=other")


def test_ended_jobs_the_newest_first_with_their_errors(bench: Bench) -> None:
    ended(bench, "t1")
    ended(bench, "t2", JobFailed("boom <script>"))
    jobs_admin.client_app().backend.store_result("t2", JobFailed("boom <script>"), "FAILURE")
    seen = shown(user("view_job"), "?which=ended")
    assert seen.index('data-task="t2"') < seen.index('data-task="t1"')
    assert "JobFailed: boom &lt;script&gt;" in seen and "2.5 s" in seen


def test_a_call_that_was_delivered_twice_is_listed_once(bench: Bench) -> None:
    ended(bench, "t1")
    bench.store.mark_delivered(ENDPOINT, "t1", [], bench.now)
    assert shown(user("view_job"), "?which=ended").count('data-task="t1"') == 1


def test_the_latest_thousand_are_kept(bench: Bench) -> None:
    from celery_runpod._store import id_index

    for n in range(id_index.MOST_ENDED + 5):
        bench.store.ids.put_ended(bench.redis, ENDPOINT, f"t{n}")
    found = bench.store.ids.ended()
    assert (len(found), found[0]) == (id_index.MOST_ENDED, (ENDPOINT, f"t{id_index.MOST_ENDED + 4}"))
    assert bench.redis.ttl(bench.store.keys.ended()) > 0


def test_the_projects_row_is_linked_for_who_may_see_it(bench: Bench) -> None:
    bench.accepted("t1")
    row = Picture.objects.create(task_id="t1")
    link = f"/admin/shop/picture/{row.pk}/change/"
    assert link in shown(user("view_job", "view_picture"))
    assert link not in shown(user("view_job"))


@pytest.mark.parametrize("by", ["get_queryset", "has_view_permission"])
def test_a_row_that_its_own_admin_hides_from_the_user_is_not_shown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    for task_id, prompt in (("t1", "ours"), ("t2", "the secret merger")):
        bench.accepted(task_id)
        Picture.objects.create(task_id=task_id, prompt=prompt)
    monkeypatch.setattr(Picture, "__str__", lambda self: self.prompt)
    its_admin = admin.site._registry[Picture]
    if by == "get_queryset":
        monkeypatch.setattr(its_admin, by, lambda request: Picture.objects.filter(prompt="ours"))
    else:
        monkeypatch.setattr(its_admin, by, lambda request, obj=None: obj is None or obj.prompt == "ours")
    seen = shown(user("view_job", "view_picture"))
    assert "ours" in seen and "the secret merger" not in seen and "t2" in seen


def test_a_result_that_cannot_be_read_takes_the_page_from_no_other(bench: Bench) -> None:
    backend = jobs_admin.client_app().backend
    for task_id in ("t1", "t2"):
        ended(bench, task_id, JobFailed("boom"))
        backend.store_result(task_id, JobFailed("boom"), "FAILURE")
    backend.set(backend.get_key_for_task("t1"), b"{cut")
    seen = shown(user("view_job"), "?which=ended")
    assert "its result cannot be read" in seen and "JobFailed: boom" in seen


def test_cancel(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[str] = []
    monkeypatch.setattr(JobResult, "cancel", lambda self: cancelled.append(self.id))
    for task_id in ("t1", "t2"):
        bench.accepted(task_id)
    data = {"action": "cancel", "task_id": ["t1", "t2"]}
    for permissions in (["view_job"], ["view_job", "retry_job"]):
        assert user(*permissions).post(PAGE, data).status_code == 403
    client = user("view_job", "cancel_job")
    assert client.post(PAGE, {"action": "retry", "task_id": ["t1"]}).status_code == 403
    assert cancelled == []
    assert 'value="cancel"' in shown(client)
    answer = client.post(f"{PAGE}?endpoint={ENDPOINT}", data, follow=True)
    assert cancelled == ["t1", "t2"]
    assert answer.redirect_chain == [(f"{PAGE}?endpoint={ENDPOINT}", 302)]
    assert "Asked for the cancel of 2 jobs" in answer.content.decode()
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(apps.get_model("auth", "User").objects.get())
    assert forged.post(PAGE, data).status_code == 403 and len(cancelled) == 2


def test_retry_says_what_was_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def retry(task_id: str, **_: Any) -> Any:
        asked.append(task_id)
        if task_id == "t2":
            raise RetryRefused(task_id, "its input is kept no longer")
        return JobResult(f"{task_id}-again")

    monkeypatch.setattr(jobs_admin, "retry", retry)
    monkeypatch.setattr("celery_runpod.django.models.retry", retry)
    for task_id in ("t1", "t2", "t3"):
        ended(bench, task_id, JobFailed("boom"))
    row = Picture.objects.create(task_id="t3")
    Picture.objects.update(job_state="FAILURE", job_error={"type": "JobFailed", "args": ["boom"], "message": "boom"})
    client = user("view_job", "retry_job")
    page = f"{PAGE}?which=ended"
    assert 'value="retry"' in shown(client, "?which=ended")
    seen = client.post(page, {"action": "retry", "task_id": ["t1", "t2", "t3"]}, follow=True).content.decode()
    assert asked == ["t1", "t2", "t3"]
    assert "its input is kept no longer" in seen and "Run again: 2 jobs" in seen
    row.refresh_from_db()
    assert (row.task_id, row.job_state, row.job_error) == ("t3-again", "PENDING", None)


def test_a_retry_that_is_refused_is_a_message_also_with_a_transaction_for_each_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def retry(task_id: str, **_: Any) -> Any:
        raise RetryRefused(task_id, "its input is kept no longer")

    monkeypatch.setattr("celery_runpod.django.models.retry", retry)
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    ended(bench, "t1", JobFailed("boom"))
    Picture.objects.create(task_id="t1")
    data = {"action": "retry", "task_id": ["t1"]}
    seen = user("view_job", "retry_job").post(f"{PAGE}?which=ended", data, follow=True).content.decode()
    assert "its input is kept no longer" in seen and "Run again" not in seen


def test_a_job_that_worked_cannot_be_chosen(bench: Bench) -> None:
    ended(bench, "t1")
    assert 'name="task_id"' not in shown(user("view_job", "retry_job"), "?which=ended")


class Commands:
    """Counts what is sent to Redis: commands, and the round trips that carry them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = self.trips = 0
        single, together = Redis.execute_command, Pipeline.execute

        def one(redis: Any, *args: Any, **options: Any) -> Any:
            self.sent, self.trips = self.sent + 1, self.trips + 1
            return single(redis, *args, **options)

        def many(pipe: Any, *args: Any, **options: Any) -> Any:
            self.sent, self.trips = self.sent + len(pipe.command_stack), self.trips + 1
            return together(pipe, *args, **options)

        monkeypatch.setattr(Redis, "execute_command", one)
        monkeypatch.setattr(Pipeline, "execute", many)

    def of(self, client: Client, query: str) -> tuple[int, int, str]:
        self.sent = self.trips = 0
        seen = shown(client, query)
        return self.sent, self.trips, seen


def fill(bench: Bench, jobs: int, calls: int) -> None:
    """So many open jobs of one endpoint, which are copies of one; and so many calls that no worker has accepted."""
    keys = bench.store.keys
    if not bench.redis.exists(keys.job(ENDPOINT, "t1")):
        bench.accepted("t1", name="sdxl")
    record = bench.redis.hgetall(keys.job(ENDPOINT, "t1"))
    message = json.dumps({"body": [[], {"endpoint": "sdxl"}, {}]})
    with bench.redis.pipeline(transaction=False) as pipe:
        for number in range(2, jobs + 1):
            pipe.hset(keys.job(ENDPOINT, f"t{number}"), mapping=record)
            pipe.zadd(keys.due(ENDPOINT), {f"t{number}": bench.now + number})
        for number in range(calls):
            pipe.zadd(keys.outbox(), {f"c{number}": bench.now})
            pipe.hset(keys.outbox_messages(), f"c{number}", message)
        pipe.execute()


def test_a_page_costs_no_more_with_ten_thousand_open_jobs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = {"": 200, "?endpoint=sdxl": 200, f"?endpoint={ENDPOINT}": 200, "?endpoint=other": 0, "?which=ended": 0}
    fill(bench, 1_500, 1_500)
    client, commands = user("view_job"), Commands(monkeypatch)
    few = {query: commands.of(client, query)[:2] for query in queries}
    fill(bench, 10_000, 10_000)
    for query, rows in queries.items():
        sent, trips, seen = commands.of(client, query)
        assert (sent, trips) == few[query]
        assert sent < 4_100 and trips < 20
        assert seen.count("data-task=") == rows
        assert ("9800 more" in seen) is bool(rows)
        assert ("10000 more calls" in seen) is (query != "?which=ended")


def test_a_name_that_the_first_thousand_jobs_do_not_have_is_said(bench: Bench) -> None:
    fill(bench, 1_200, 0)
    seen = shown(user("view_job"), "?endpoint=other")
    assert "No open job of other" in seen and "up to 200 more" in seen


def test_a_store_that_is_away_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise RedisConnectionError("gone")

    monkeypatch.setattr(jobs_admin, "open_rows", away)
    seen = shown(user("view_job"))
    assert "job store" in seen and "gone" in seen
