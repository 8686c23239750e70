"""`manage.py check`: what would keep endpoints or webhooks of a Django project from working."""

from __future__ import annotations

import pytest
from celery import Celery
from django.test import override_settings

from celery_runpod._devstack.stack import free_port
from celery_runpod.django import _system_checks as checks
from celery_runpod.errors import NotConfigured
from tests import django_project  # noqa: F401 - configures Django


def found(monkeypatch: pytest.MonkeyPatch, app: Celery | None) -> dict[str, str]:
    """The checks' messages by their id."""

    def of_the_project() -> Celery:
        if app is None:
            raise NotConfigured("no Celery app is configured in this process")
        return app

    monkeypatch.setattr(checks, "client_app", of_the_project)
    return {str(one.id): str(one.msg) for one in checks.check_celery_runpod()}


@pytest.fixture
def eager() -> Celery:
    """Not compared with the workers, so that a check needs no server."""
    app = Celery("project", set_as_current=False)
    app.conf.task_always_eager = True
    return app


def test_a_project_without_a_celery_app(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no Celery app" in found(monkeypatch, None)["celery_runpod.E001"]


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, eager: Celery) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_SECRET", "short")
    assert "RUNPOD_WEBHOOK_SECRET" in found(monkeypatch, eager)["celery_runpod.E002"]


def test_webhooks_without_a_secret(monkeypatch: pytest.MonkeyPatch, eager: Celery) -> None:
    assert found(monkeypatch, eager) == {}
    monkeypatch.setenv("RUNPOD_WEBHOOK_URL", "https://example.com/webhooks")
    assert list(found(monkeypatch, eager)) == ["celery_runpod.W001"]


def test_a_broker_that_is_away_is_a_warning_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    app = Celery("project", broker=url, backend=url, set_as_current=False)
    [(name, message)] = found(monkeypatch, app).items()
    assert name == "celery_runpod.W002" and url in message


def test_an_app_without_a_result_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("project", broker=f"redis://127.0.0.1:{free_port()}/0", set_as_current=False)
    assert list(found(monkeypatch, app)) == ["celery_runpod.E005"]


def test_pages_without_the_hook(monkeypatch: pytest.MonkeyPatch, eager: Celery) -> None:
    with override_settings(RUNPOD={}):
        assert "/runpod/job" in found(monkeypatch, eager)["celery_runpod.W003"]
    with override_settings(RUNPOD={}, ROOT_URLCONF="django.contrib.auth.urls"):  # without the pages
        assert found(monkeypatch, eager) == {}


def test_an_app_that_other_threads_do_not_have() -> None:
    app = Celery("mine")
    app.conf.task_always_eager = True
    try:
        [(name, message)] = ((one.id, one.msg) for one in checks.check_celery_runpod())
        assert name == "celery_runpod.W004" and "'mine'" in str(message)
        app.set_default()
        assert checks.check_celery_runpod() == []
    finally:
        app.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("result_serializer", "pickle"), ("accept_content", ["pickle"]), ("result_accept_content", ["yaml"])],
)
def test_a_setting_with_which_no_result_can_be_read(
    setting: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Celery("project", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf[setting] = value
    monkeypatch.setattr(checks, "client_app", lambda: app)
    monkeypatch.setattr(checks, "check_reachable", lambda _: None)
    [error] = checks.check_celery_runpod()
    assert error.id == "celery_runpod.E003" and setting in error.msg
    assert error.hint is not None and f"CELERY_{setting.upper()}" in error.hint
