"""How a handler's output or error becomes RunPod's answer, as RunPod's SDK and API make it.

The answer is read by the same code as RunPod's own (`celery_runpod/api/`), so that a test sees the error, the type and
the fields that a worker would deliver.

Read in `runpod/serverless/modules/rp_job.py`, 1.12: a dict with `error` is a failure, `refresh_worker` is taken out, an
empty dict is dropped. A result over 20 MB is lost.

Not here: which output or error a call gets (``fake_endpoint.py``).
"""

from __future__ import annotations

import json
import traceback
from typing import Any

from celery_runpod.api._answers import Job, parse_job
from celery_runpod.api._depth import too_deep
from celery_runpod.api._payload import RUNSYNC_LIMIT_BYTES, encode

LARGEST_RESULT = RUNSYNC_LIMIT_BYTES


def answer_with(output: Any, job_id: str) -> Job:
    """RunPod's answer for a handler that returned this output.

    Raises:
        InvalidInput: the output is not JSON, and no handler could return it; the text names the place.
    """
    body: dict[str, Any] = {"id": job_id, "status": "COMPLETED", "delayTime": 0, "executionTime": 0}
    if too_deep(output):
        return parse_job({**body, "output": output})
    if isinstance(output, dict):
        output = dict(output)
        error = output.pop("error", None)
        output.pop("refresh_worker", None)
        if error:
            body |= {"status": "FAILED", "error": as_json(error, "output.error")}
    encoded = encode(output, name="output")
    if output != {} and len(encoded) <= LARGEST_RESULT:
        body["output"] = json.loads(encoded)
    return parse_job(body)


def answer_raised(error: Exception, job_id: str) -> Job:
    """RunPod's answer for a handler that raised this exception."""
    said = {
        "error_type": str(type(error)),
        "error_message": str(error),
        "error_traceback": "".join(traceback.format_exception(error)),
    }
    return parse_job({"id": job_id, "status": "FAILED", "error": json.dumps(said)})


def answer_failed(error: str, job_id: str) -> Job:
    """RunPod's answer for a handler that returned this text as its error."""
    return parse_job({"id": job_id, "status": "FAILED", "error": error})


def as_json(value: Any, name: str) -> Any:
    """A copy of a value as JSON has it: a tuple is a list, a key is text.

    Raises:
        InvalidInput: it is not JSON; `name` begins the path in the text.
    """
    return json.loads(encode(value, name=name))
