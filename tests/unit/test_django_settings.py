"""The setting RUNPOD of a Django project: what it takes, what goes first, what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, current_app
from django.test import override_settings

from celery_runpod import _connect
from celery_runpod._connect import client_settings, store_url
from celery_runpod._worker_mark import mark_as_worker
from celery_runpod.django import _settings
from celery_runpod.errors import ConfigurationError
from tests import django_project  # noqa: F401 - configures Django

SECRET = "0123456789abcdef"


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*_settings.VARIABLES.values(), "CELERY_BROKER_URL"):
        monkeypatch.delenv(variable, raising=False)


def test_each_variable_of_a_caller_may_be_given() -> None:
    given = {
        "REDIS_URL": "redis://a/0",
        "BROKER_URL": "redis://b/0",
        "RESULT_BACKEND": "redis://c/0",
        "STORE_URL": "redis+sentinel://d/0",
        "SENTINEL_MASTER_NAME": "prime",
        "NAMESPACE": "shop",
        "WEBHOOK_URL": "https://shop.example/hook",
        "WEBHOOK_SECRET": SECRET,
        "WEBHOOK_SECRET_PREVIOUS": SECRET[::-1],
    }
    assert set(given) == set(_settings.VARIABLES)
    with override_settings(RUNPOD=given):
        found = client_settings()
        assert (found.broker_url, found.result_backend, found.store_url) == (
            "redis://b/0",
            "redis://c/0",
            "redis+sentinel://d/0?master_name=prime",
        )
        assert (found.namespace, found.webhook_secret, found.webhook_secret_previous) == ("shop", SECRET, SECRET[::-1])
        assert found.explicit
        app = Celery("x", broker="redis://e/0", set_as_current=False)
        assert store_url(app) == "redis+sentinel://d/0?master_name=prime"
    assert client_settings().namespace == "runpod"
    assert store_url(app) == "redis://e/0"


def test_no_variable_that_callers_read_is_missing() -> None:
    read = set(re.findall(r'"(RUNPOD_\w+|REDIS_URL)"', Path(_connect.__file__).read_text()))
    assert read and read <= set(_settings.VARIABLES.values())


def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(RUNPOD={"NAMESPACE": "of-django"}):
        monkeypatch.setenv("RUNPOD_NAMESPACE", "")
        assert client_settings().namespace == "of-django"
        monkeypatch.setenv("RUNPOD_NAMESPACE", "of-the-environment")
        assert client_settings().namespace == "of-the-environment"


def test_a_runpod_worker_that_imports_the_project_keeps_its_own_settings() -> None:
    worker = Celery("worker", set_as_current=False)
    mark_as_worker(worker)
    before = current_app._get_current_object()
    worker.set_current()
    try:
        with override_settings(RUNPOD={"NAMESPACE": "of-django"}):
            assert client_settings().namespace == "runpod"
    finally:
        before.set_current()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"NAMESPASE": "shop"}, "NAMESPASE"),
        ({"RUNPOD_NAMESPACE": "shop"}, "RUNPOD_NAMESPACE"),
        ({"API_KEY": SECRET}, "API_KEY"),
        ({3: "x"}, "3"),
        ({"WEBHOOK_SECRET": [SECRET]}, "list"),
        ({"NAMESPACE": 7}, "int"),
        ([SECRET], "list"),
    ],
)
def test_what_is_wrong_is_refused_at_each_use_and_by_the_checks(given: Any, shown: str) -> None:
    from celery_runpod.django._system_checks import check_celery_runpod

    with override_settings(RUNPOD=given):
        with pytest.raises(ConfigurationError) as refused:
            client_settings()
        [found] = check_celery_runpod()
    assert found.id == "celery_runpod.E004" and str(found.msg) == str(refused.value)
    assert shown in str(found.msg) and SECRET not in str(found.msg)
    if isinstance(given, dict) and shown not in ("list", "int"):
        assert all(name in str(found.msg) for name in (*_settings.VARIABLES, "MAY_SEE", "MOST_STREAMS"))


def test_a_value_that_cannot_be_used_is_found_by_the_checks() -> None:
    from celery_runpod.django._system_checks import check_celery_runpod

    with override_settings(RUNPOD={"WEBHOOK_SECRET": "short"}):
        found = {one.id: one for one in check_celery_runpod()}
    assert "RUNPOD_WEBHOOK_SECRET" in found["celery_runpod.E002"].msg
    assert "setting RUNPOD" in str(found["celery_runpod.E002"].hint)
