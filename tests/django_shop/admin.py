"""The project's own admin."""

from __future__ import annotations

from django.contrib import admin

from tests.django_shop.models import Picture

admin.site.register(Picture)
