"""RunPod's REST API on `requests`, without Celery: what one would want instead of twenty lines of `requests`.

Next: ``serverless.py``, the client; ``transport.py``, the one place that does HTTP.
"""

from celery_runpod.api.answers import FINAL_STATES, Health, Job, Policy, parse_job
from celery_runpod.api.serverless import RunPodClient

__all__ = ["FINAL_STATES", "Health", "Job", "Policy", "RunPodClient", "parse_job"]
