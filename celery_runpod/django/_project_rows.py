"""The models of a project whose rows are jobs, and the receiver that saves the ends of jobs in them.

Not here: what such a model is (``models.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.apps import apps

from celery_runpod.errors import RunPodError

if TYPE_CHECKING:
    from celery_runpod.django.models import JobModel


def job_models() -> Iterator[type[JobModel]]:
    """The models of the project that are jobs; a model before those that it inherits from, because a row of it is a row
    of those too."""
    from celery_runpod.django.models import JobModel

    found = [one for one in apps.get_models() if issubclass(one, JobModel) and not one._meta.proxy]
    return iter(sorted(found, key=lambda one: -len(one._meta.get_parent_list())))


def save_end(task_id: str, state: str, result: Any, error: RunPodError | None, **_: Any) -> None:
    """Save the end of a job in the row that is this job, if there is one."""
    for model in job_models():
        if model._note_end(task_id, state, result, error):
            return
