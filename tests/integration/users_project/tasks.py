"""A user's own tasks."""

from celery import shared_task

from celery_runpod import Endpoint, JobResult

saved = []
failed = []


@shared_task
def prompt_for(subject):
    return {"prompt": f"a {subject}"}


@shared_task
def save(output):
    saved.append(output)
    return len(saved)


@shared_task
def total(outputs):
    return sum(outputs)


@shared_task
def note_failure(task_id):
    failed.append(JobResult(task_id).error)


@shared_task
def create(subject):
    return Endpoint("sdxl").delay(prompt=subject).id
