"""Django: the webhook, the views and the script of a page that watches a job, and system checks.

`path("runpod/", include("celery_runpod.django.urls"))` has the views. Add "celery_runpod.django" to INSTALLED_APPS for
the checks, and for the script, `{% static "celery_runpod/celery_runpod.js" %}`.
"""
