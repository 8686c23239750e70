"""The webhook for Django: `path("runpod/", include("celery_runpod.django.urls"))`, and system checks.

Add "celery_runpod.django" to INSTALLED_APPS for the checks.
"""
