"""A Django project of the tests, as an ASGI and a WSGI application: the views of celery_runpod, and a page of theirs.

Whoever says in the header X-User that they are a stranger may see nothing. The Celery app is made from REDIS_URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.html import escape

from tests.django_shop import settings as shop

CSP = "default-src 'none'; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'"

if not settings.configured:
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        # Not by the variable: the workers that a test starts would inherit it.
        settings.configure(**{name: value for name, value in vars(shop).items() if name.isupper()})
    django.setup()

from celery_runpod.django.signals import job_ended  # noqa: E402 - its application is ready now

RECEIVERS = list(job_ended.receivers)


@contextmanager
def listening() -> Iterator[None]:
    """The receivers of the project are connected meanwhile. Otherwise they would hear of the calls of all tests in a
    process that imports this module."""
    _set_receivers(RECEIVERS)
    try:
        yield
    finally:
        _set_receivers([])


def _set_receivers(receivers: list[Any]) -> None:
    with job_ended.lock:
        job_ended.receivers = list(receivers)
        job_ended.sender_receivers_cache.clear()


if "DJANGO_SETTINGS_MODULE" not in os.environ:
    _set_receivers([])


def may_see(request: HttpRequest, task_id: str) -> bool:
    return request.headers.get("X-User") != "stranger"


def page(request: HttpRequest) -> HttpResponse:
    """A page that watches one job, under a strict content security policy."""
    task = escape(request.GET.get("task", ""))
    script = '<script src="/static/celery_runpod/celery_runpod.js" defer></script>'
    body = f'<!doctype html><title>job</title>{script}<runpod-job task="{task}" src="/runpod/job"></runpod-job>'
    return HttpResponse(body, headers={"Content-Security-Policy": CSP})


def _urls() -> list[Any]:
    from django.contrib import admin
    from django.contrib.staticfiles.views import serve
    from django.urls import include, path

    return [
        path("page", page),
        path("admin/", admin.site.urls),
        path("runpod/", include("celery_runpod.django.urls")),
        path("static/<path:path>", serve, {"insecure": True}),
    ]


urlpatterns = _urls()


def asgi() -> Any:
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


def wsgi() -> Any:
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()
