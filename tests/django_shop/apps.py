"""Connects the receivers, where a project would."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "tests.django_shop"
    label = "shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from celery_runpod.django.signals import job_ended

        job_ended.connect(hear, dispatch_uid="shop")


def hear(task_id: str, endpoint: str | None, state: str, result: Any, error: Any, **_: Any) -> None:
    from tests.django_shop.models import Heard

    text = "" if error is None else f"{type(error).__name__}: {error}"
    Heard.objects.create(task_id=task_id, endpoint=endpoint, state=state, result=result, error=text[:1000])
