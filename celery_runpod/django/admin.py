"""Django's admin: a list of the open jobs and of those that ended last, with cancel and retry. It reads the job store.

Who may do what are permissions of Django: `celery_runpod.view_job`, `cancel_job` and `retry_job`.

Not here: what a row is (`celery_runpod/_live/job_rows.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from celery import Celery
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, path, reverse
from redis.exceptions import RedisError

from celery_runpod._asking import retry
from celery_runpod._connect import client_app, store_unavailable
from celery_runpod._escaping import shown
from celery_runpod._live.job_rows import Row, ended_rows, open_rows
from celery_runpod._store.store import store_of
from celery_runpod.django._project_rows import job_models
from celery_runpod.django.models import Job
from celery_runpod.errors import RunPodError
from celery_runpod.results import JobResult

__all__: list[str] = []

_log = logging.getLogger(__name__)

_MOST_ROWS = 200
_MOST_READ = 1_000
"""How many records of an endpoint are read in search of a name: a page costs the same however many jobs are open."""
_MOST_AT_ONCE = 20
"""How many jobs one request runs again: each waits for the answer of a worker."""
_ANSWER_S = 10.0
_MOST_TEXT = 300
_WORKED, _CANCELLED = "COMPLETED", "CANCELLED"


class _JobAdmin(admin.ModelAdmin):
    """The list. It has no pages of single jobs, and no form."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    # Each job is run again by itself, and what a worker refuses is a message on the page.
    @transaction.non_atomic_requests
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponseBase:
        if not self.has_view_permission(request):
            raise PermissionDenied
        may_cancel = request.user.has_perm("celery_runpod.cancel_job")
        may_retry = request.user.has_perm("celery_runpod.retry_job")
        ended, endpoint = request.GET.get("which") == "ended", request.GET.get("endpoint", "").strip()
        if request.method == "POST":
            allowed = {"cancel": may_cancel, "retry": may_retry}
            action = request.POST.get("action", "")
            if not allowed.get(action):
                raise PermissionDenied
            self._act(request, action, request.POST.getlist("task_id"))
            return HttpResponseRedirect(f"{request.path}?{request.GET.urlencode()}")
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        context = {
            **self.admin_site.each_context(request),
            "title": "Jobs that ended last" if ended else "Open jobs",
            "opts": self.opts,
            "ended": ended,
            "endpoint": endpoint,
            "tabs": [(_query(which, endpoint), which, ended == (which == "ended")) for which in ("open", "ended")],
            "action": ("retry" if may_retry else "") if ended else ("cancel" if may_cancel else ""),
            **self._listed(request, ended, endpoint),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "celery_runpod/jobs.html", context)

    def _listed(self, request: HttpRequest, ended: bool, endpoint: str) -> dict[str, Any]:
        """What the store holds; nothing, and a message, if it does not answer."""
        nothing: dict[str, Any] = {"rows": [], "left_out": 0, "waiting": 0, "worker_up": True}
        try:
            app = client_app()
        except RunPodError as error:
            self.message_user(request, str(error), messages.ERROR)
            return nothing
        try:
            store, now = store_of(app), time.time()  # noqa: TID251 - the edge
            if ended:
                rows, left_out = ended_rows(store, endpoint or None, _MOST_ROWS), 0
            else:
                rows, left_out = open_rows(store, endpoint or None, _MOST_ROWS, _MOST_READ)
            links = _rows_of_the_project(request, self.admin_site, rows)
            return {
                "rows": [_Shown(app, row, links.get(row.task_id)) for row in rows],
                "left_out": left_out,
                # Of all endpoints: a call's endpoint stands in its message alone.
                "waiting": 0 if ended else store.outbox.count_calls(now + 1),
                "worker_up": store.workers.worker_up(now),
            }
        except (RedisError, OSError) as error:
            self.message_user(request, str(store_unavailable(app, error)), messages.ERROR)
        except RunPodError as error:
            self.message_user(request, str(error), messages.ERROR)
        return nothing

    def _act(self, request: HttpRequest, action: str, task_ids: list[str]) -> None:
        act, most, done = _cancel, _MOST_ROWS, "Asked for the cancel of"
        if action == "retry":
            act, most, done = _run_again, _MOST_AT_ONCE, "Run again:"
        worked = 0
        for task_id in task_ids[:most]:
            try:
                act(task_id)
            except RunPodError as error:
                self.message_user(request, f"{task_id}: {shown(str(error))}", messages.ERROR)
            except (RedisError, OSError) as error:
                self.message_user(request, str(store_unavailable(client_app(), error)), messages.ERROR)
                break
            else:
                worked += 1
                _log.info("%s: %s, by %s", action, task_id, request.user)
        if worked:
            self.message_user(request, f"{done} {worked} {'job' if worked == 1 else 'jobs'}", messages.SUCCESS)
        if len(task_ids) > most:
            self.message_user(request, f"Only the first {most} were taken: choose the others again.", messages.WARNING)
        if not task_ids:
            self.message_user(request, "No job was chosen.", messages.WARNING)


def _query(which: str, endpoint: str) -> str:
    return "?" + urlencode({"which": which, **({"endpoint": endpoint} if endpoint else {})})


def _cancel(task_id: str) -> None:
    JobResult(task_id).cancel()


def _run_again(task_id: str) -> None:
    for model in job_models():
        row = model._base_manager.filter(task_id=task_id).first()
        if row is not None:
            row.retry_job(timeout=_ANSWER_S)
            return
    retry(task_id, timeout=_ANSWER_S)


class _Shown:
    """A row for the template. What RunPod and handlers wrote is shown without control characters, and bounded."""

    def __init__(self, app: Celery, row: Row, link: tuple[str, str] | None) -> None:
        self.row = row
        self.link = link
        self.state = row.verdict or row.state
        self.why = shown(row.why()) if row.reason and not row.verdict else ""
        self.progress = shown(row.progress)[:_MOST_TEXT]
        at = row.ended_at if row.verdict else row.accepted_at
        self.at = None if at is None else datetime.fromtimestamp(at, UTC)
        self.error = ""
        self.may_be_run_again = bool(row.verdict) and row.verdict not in (_WORKED, _CANCELLED)
        if self.may_be_run_again:
            self.error = _error_of(row.task_id, app)

    @property
    def chosen(self) -> bool:
        """Whether it can be chosen for the action of its list."""
        return self.may_be_run_again or not self.row.verdict


def _error_of(task_id: str, app: Celery) -> str:
    try:
        error = JobResult(task_id, app=app).error
    except (RedisError, OSError):
        raise  # for all rows: the page says so once
    except Exception as problem:
        # One damaged result must not take the page from all others.
        _log.warning("the result of the job %s cannot be read: %s", task_id, problem)
        return "its result cannot be read"
    return "" if error is None else shown(f"{type(error).__name__}: {error}")[:_MOST_TEXT]


def _rows_of_the_project(request: HttpRequest, site: Any, rows: Iterable[Row]) -> dict[str, tuple[str, str]]:
    """Task id -> the page and the name of the project's row that is this job, where the user may see it."""
    ids = [row.task_id for row in rows]
    found: dict[str, tuple[str, str]] = {}
    for model in job_models():
        its_admin = site._registry.get(model)
        if its_admin is None or not its_admin.has_view_permission(request):
            continue
        page = f"{site.name}:{model._meta.app_label}_{model._meta.model_name}_change"
        # Asked for as that admin lists them: it may show each user only some of the rows.
        for row in its_admin.get_queryset(request).filter(task_id__in=ids):
            if not its_admin.has_view_permission(request, row):
                continue
            try:
                found.setdefault(str(row.task_id), (reverse(page, args=[row.pk]), str(row)))
            except NoReverseMatch:
                break  # this admin has no such page
    return found


admin.site.register(Job, _JobAdmin)
