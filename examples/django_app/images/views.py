"""Enqueue a job, and tell how it stands."""

import json

from celery import chain
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt

from celery_runpod import Endpoint, JobResult
from images.tasks import keep

echo = Endpoint("echo").using(deadline=900)


@csrf_exempt  # the example has no pages that could hold a token
def create(request):
    """POST {"prompt", "order"}: a GPU job and the task that follows it. In a view that writes to the database first,
    `echo.delay_on_commit(prompt=...)` enqueues once the transaction has been committed."""
    asked = json.loads(request.body)
    result = chain(echo.s(prompt=asked["prompt"]), keep.s(asked.get("order", "none"))).delay()
    return JsonResponse({"job": result.parent.id, "order": result.id})


def show(request, task_id):
    """How it stands."""
    result = JobResult(task_id)
    return JsonResponse(
        {"state": result.state, "reason": result.reason, "result": result.result if result.successful() else None}
    )
