"""What a user's project would have in its models."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from django.db import models

from celery_runpod.django.models import JobModel


class Picture(JobModel):
    """A row that is a job, and counts how often its end was handled."""

    prompt = models.CharField(max_length=200)
    handled = models.IntegerField(default=0)

    def job_has_ended(self, result: Any, error: Any) -> None:
        if (file := os.environ.get("SHOP_DIES_ONCE")) and Path(file).exists():
            Path(file).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        self.handled += 1
        self.save(update_fields=["handled"])


class Poster(Picture):
    """A model that inherits from a job's model with a table of its own."""

    paper = models.CharField(max_length=20, default="")

    def job_has_ended(self, result: Any, error: Any) -> None:
        self.paper = "printed"
        self.save(update_fields=["paper"])


class Sketch(JobModel):
    """Keeps no result."""

    keeps_job_result = False
    kind = models.CharField(max_length=200, default="")


class Heard(models.Model):
    """What a receiver of `job_ended` was given, in the own worker."""

    task_id = models.CharField(max_length=255)
    endpoint = models.CharField(max_length=255, null=True)
    state = models.CharField(max_length=20)
    result = models.JSONField(null=True)
    error = models.CharField(max_length=1000)
