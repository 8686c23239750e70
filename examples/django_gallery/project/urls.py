"""The pages, the admin, and what celery-runpod's script and RunPod's webhooks ask for."""

from django.contrib import admin
from django.urls import include, path

from gallery import views

urlpatterns = [
    path("", views.index, name="index"),
    path("pictures/<int:pk>/", views.picture, name="picture"),
    path("pictures/<int:pk>/image", views.image, name="image"),
    path("pictures/<int:pk>/cancel", views.cancel, name="cancel"),
    path("pictures/<int:pk>/again", views.again, name="again"),
    path("admin/", admin.site.urls),
    path("runpod/", include("celery_runpod.django.urls")),
]
