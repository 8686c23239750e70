"""The URL of the webhook view: include these patterns under any prefix."""

from __future__ import annotations

from django.urls import path

from celery_runpod.django._webhook_view import webhook

__all__ = ["app_name", "urlpatterns"]

app_name = "celery_runpod"
urlpatterns = [path("webhook", webhook, name="webhook"), path("webhook/", webhook)]
