"""The URLs of the webhook view and of the views of a page that watches a job: include these patterns under any prefix."""

from __future__ import annotations

from django.urls import path

from celery_runpod.django._job_views import job_events, job_status
from celery_runpod.django._webhook_view import webhook

__all__ = ["app_name", "urlpatterns"]

app_name = "celery_runpod"
urlpatterns = [
    path("webhook", webhook, name="webhook"),
    path("webhook/", webhook),
    path("job", job_status, name="job"),
    path("job/events", job_events, name="job_events"),
]
