"""The Django application: registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["CeleryRunPodConfig"]


class CeleryRunPodConfig(AppConfig):
    """`celery_runpod.django` in INSTALLED_APPS."""

    name = "celery_runpod.django"
    label = "celery_runpod"
    verbose_name = "RunPod"

    def ready(self) -> None:
        from celery_runpod.django import _system_checks  # noqa: F401 - registers them
