"""The project's Celery app: `celery -A project worker` runs the project's own tasks, and saves the ends of its jobs."""

import os

from celery import Celery

import celery_runpod  # noqa: F401 - connects the routing of what follows an endpoint

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("gallery")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()
