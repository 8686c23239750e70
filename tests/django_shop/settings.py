"""Its settings. The database is SQLite in memory, or what the variable SHOP_DATABASE holds as JSON."""

from __future__ import annotations

import json
import os

IN_MEMORY = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}

ALLOWED_HOSTS = ["*"]
SECRET_KEY = "of the tests alone"
ROOT_URLCONF = "tests.django_project"
INSTALLED_APPS = [
    *("django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes"),
    *("django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles"),
    *("celery_runpod.django", "tests.django_shop.apps.ShopConfig"),
]
# Compresses what it may: events must come at once all the same.
MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", "django.middleware.common.CommonMiddleware"]
OF_THE_ADMIN = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410"]  # tests of the admin have this middleware
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                *("django.template.context_processors.request", "django.contrib.auth.context_processors.auth"),
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": json.loads(os.environ["SHOP_DATABASE"]) if "SHOP_DATABASE" in os.environ else IN_MEMORY,
    "other": IN_MEMORY,
}
STATIC_URL = "/static/"
RUNPOD = {"MAY_SEE": "tests.django_project.may_see"}
USE_TZ = True
