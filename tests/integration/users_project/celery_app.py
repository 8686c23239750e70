"""A user's Celery app. Its name, and that of `tasks`, are those of packages of the RunPod worker."""

from celery import Celery

app = Celery("shop")
app.config_from_object("settings", namespace="CELERY")
app.autodiscover_tasks(["tasks"], related_name=None)
