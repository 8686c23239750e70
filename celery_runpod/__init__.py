"""A RunPod Serverless endpoint as a Celery task.

The public names, and nothing else (docs/reference.md). Importing this package registers the client task, connects the
routing of what follows an endpoint, and lets Celery rebuild the errors: import it in every process that publishes calls
or reads results.
"""

from celery_runpod import _errback_task as _errback_task  # registers a task
from celery_runpod import errors
from celery_runpod._asking import ask, pause, resume
from celery_runpod._on_commit import on_commit
from celery_runpod._publish import caller_task as _clienttask  # registers a task
from celery_runpod._publish import forks as _forks  # connects a hook
from celery_runpod._publish import routes as _routing  # connects the signal
from celery_runpod.endpoint import Endpoint
from celery_runpod.options import Backoff, Options
from celery_runpod.results import Chunk, Flow, JobResult, JobUpdate, cancel

__version__ = "0.1.0"
__all__ = [
    "Backoff",
    "Chunk",
    "Endpoint",
    "Flow",
    "JobResult",
    "JobUpdate",
    "Options",
    "ask",
    "cancel",
    "errors",
    "on_commit",
    "pause",
    "resume",
]

del _clienttask, _forks, _routing
