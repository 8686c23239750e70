"""The webhook's view. RunPod sends no CSRF token; the signature in the URL takes its place.

Not here: what is done with a webhook (``celery_runpod/_webhooks/receive.py``).
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from celery_runpod._webhooks.receive import receive


@csrf_exempt
def webhook(request: HttpRequest) -> HttpResponseBase:
    """RunPod's POST at a job's end."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    length = request.META.get("CONTENT_LENGTH") or ""
    # Read from the stream: `request.body` refuses what is over DATA_UPLOAD_MAX_MEMORY_SIZE (2.5 MB by default), and an
    # output may be larger.
    status, answer = receive(request.GET.dict(), request.read, length=int(length) if length.isdigit() else None)
    return JsonResponse(answer, status=status)
