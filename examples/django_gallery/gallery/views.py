"""The gallery, the page of one picture, and what its buttons do."""

from django.db import transaction
from django.http import FileResponse, Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

import celery_runpod
from gallery.models import Picture


def owner_of(request):
    """Whoever has the session: the example has no login."""
    if not request.session.session_key:
        request.session.create()
    return request.session.session_key


def may_see(request, task_id):
    """Who may watch a job: asked by celery-runpod's views."""
    return Picture.objects.filter(owner=request.session.session_key, task_id=task_id).exists()


def index(request):
    """GET: the gallery. POST: begin a picture, after the commit."""
    owner = owner_of(request)
    prompt = request.POST.get("prompt", "").strip()[:200]
    if request.method == "POST" and prompt:
        with transaction.atomic():
            picture = Picture.objects.create(owner=owner, prompt=prompt)
            picture.begin()
        return redirect("picture", picture.pk)
    return render(request, "gallery/index.html", {"pictures": Picture.objects.filter(owner=owner)})


def picture(request, pk):
    """One picture; while its jobs run, the page is live."""
    return render(request, "gallery/picture.html", {"picture": _mine(request, pk)})


def image(request, pk):
    """The file."""
    found = _mine(request, pk)
    if not found.image:
        raise Http404
    return FileResponse(found.image.open(), content_type="image/png")


@require_POST
def cancel(request, pk):
    """Cancel the whole chain, at RunPod too."""
    celery_runpod.cancel(_mine(request, pk).task_id)
    return redirect("picture", pk)


@require_POST
def again(request, pk):
    """Begin it anew; the row becomes another job."""
    found = _mine(request, pk)
    if found.job_ended_at:
        found.begin()
    return redirect("picture", pk)


def _mine(request, pk):
    return get_object_or_404(Picture, pk=pk, owner=owner_of(request))
