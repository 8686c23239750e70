"""RunPod's REST API on `requests`, without Celery: for scripts, and for the worker.

    serverless.py   RunPodClient: the operations of an endpoint
    waiting.py      its two loops: until a job has ended, and for the chunks of a stream
    answers.py      Job, Health, Policy: RunPod's JSON as types; milliseconds end there
    failures.py     what a FAILED job left behind, as an exception
    payload.py      what may be sent: JSON, and not too much of it
    access.py       the API key, the base URL, ids in a path
    transport.py    the one place that does HTTP
    verdicts.py     an HTTP answer: its JSON, or the error it stands for
    connections.py  deadlines on sockets, and whether a request has left

Not here: pods and endpoints as things to be made (RunPod's management API), Celery, the job store. Errors are those of
``celery_runpod/errors.py``, and nothing else of celery_runpod is imported.

Next: ``serverless.py``.
"""

from celery_runpod.api.answers import FINAL_STATES, Health, Job, Policy, parse_job
from celery_runpod.api.payload import check_input
from celery_runpod.api.serverless import RunPodClient

__all__ = ["FINAL_STATES", "Health", "Job", "Policy", "RunPodClient", "check_input", "parse_job"]
