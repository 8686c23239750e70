"""The project's own tasks, run by its own worker."""

from celery import shared_task


@shared_task
def keep(output, order):
    """What the application does with the job's output."""
    return {"order": order, "output": output}
