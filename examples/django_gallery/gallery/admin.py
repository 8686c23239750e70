"""Pictures in the admin: the list of RunPod's jobs there links to them."""

from django.contrib import admin

from gallery.models import Picture

admin.site.register(Picture)
