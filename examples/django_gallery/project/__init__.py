"""The project. Its Celery app must be there before an endpoint is used."""

from project.celery import app as celery_app

__all__ = ["celery_app"]
