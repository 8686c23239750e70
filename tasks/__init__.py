"""The tasks of the RunPod worker. Follow a job from ``run.py``."""

from celery_runpod._protocol import TASK_NAMES
from celery_runpod.api._operations import MANAGEMENT

NAMES = (*TASK_NAMES, *MANAGEMENT)
"""Every task that a RunPod worker may serve."""
