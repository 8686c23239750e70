"""The Django application: registers the system checks, reads the setting `RUNPOD`, and has the ends of jobs published to
the project's own worker."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["CeleryRunPodConfig"]


class CeleryRunPodConfig(AppConfig):
    """`celery_runpod.django` in INSTALLED_APPS."""

    name = "celery_runpod.django"
    label = "celery_runpod"
    verbose_name = "RunPod"

    def ready(self) -> None:
        from celery_runpod.django import _ended_task, _system_checks  # noqa: F401 - registers the checks

        _ended_task.connect()
