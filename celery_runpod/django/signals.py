"""`job_ended`: Django's signal at the end of a job, sent in the project's own Celery worker.

    from django.dispatch import receiver
    from celery_runpod.django.signals import job_ended

    @receiver(job_ended)
    def note(sender, task_id, result, error, **kwargs): ...

Connect receivers where every process of the project does, as in the `ready` of an AppConfig: a process asks for the ends
of its calls while it has a receiver. It is sent at least once for each call, and again if a receiver raises.

Not here: how it gets there (`celery_runpod/_publish/job_ends.py`); a row that keeps the end (``models.py``).
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["job_ended"]

job_ended = Signal()
"""Keyword arguments: `task_id` (text); `endpoint`, by the name it was called by; `state` ("SUCCESS", "FAILURE" or
"REVOKED"); `result`, the output, or None with an error; `error`, a `celery_runpod.errors.RunPodError`, or None. The
sender is `celery_runpod.JobResult`."""
