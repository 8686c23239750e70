"""`webhook` under the prefix of the project's choice."""

from __future__ import annotations

from django.urls import path

from celery_runpod.django.views import webhook

app_name = "celery_runpod"
urlpatterns = [path("webhook", webhook, name="webhook"), path("webhook/", webhook)]
