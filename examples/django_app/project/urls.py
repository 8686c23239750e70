"""The pages, and RunPod's webhook at /runpod/webhook."""

from django.urls import include, path

from images import views

urlpatterns = [
    path("images/", views.create),
    path("images/<str:task_id>/", views.show),
    path("runpod/", include("celery_runpod.django.urls")),
]
