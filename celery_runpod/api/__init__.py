"""RunPod's APIs on `requests`, without Celery: for scripts, and for the worker.

Jobs (the Serverless API):

    _serverless.py   RunPodClient: the operations of an endpoint
    _waiting.py      loops: until a job has ended, over the chunks of a stream, until a pod runs
    _answers.py      Job, Health, Policy: RunPod's JSON as types, its milliseconds as seconds
    _durations.py    seconds or `timedelta`, and RunPod's bounds of them
    _handler_errors.py  what the error of a handler says, in whatever shape it comes
    _payload.py      what may be sent: JSON, and not too much of it

Managed resources: pods and endpoints (the REST API):

    _management.py   ManagementClient: pods, endpoints, GPUs, bills
    _creation.py     a create happens once, though its answer may be lost
    _podspec.py      PodSpec, PodChanges: what is asked of a pod
    _endpointspec.py  EndpointSpec, EndpointChanges: what is asked of an endpoint
    _checks.py       what each of their fields may be
    _pods.py         Pod, LogLine
    _endpoints.py    ServerlessEndpoint, ServerlessWorker
    _catalog.py      GpuType, with prices
    _billing.py      BillingRow, BillingPeriod
    _operations.py   the table of operations: method, task, path, answer
    _rest.py         the request of an operation, as a value
    _restv2.py       how RunPod words it
    _restv1.py       how it worded it before 2026-11-15: all that is only for that version

Both:

    _access.py       the API key, base URLs, ids in a path
    _transport.py    the one place that does HTTP
    _large_answers.py  they take turns, for the memory's sake
    _http_errors.py  an HTTP answer: its JSON, or the error it stands for
    _signatures.py   hides the signature in a webhook's URL
    _ratelimits.py   how long to wait after a 429
    _depth.py        how deeply JSON is nested: measured and cut before it is parsed
    _fields.py       reads one field of an answer; a value of another type counts as missing
    _connections.py  deadlines on sockets, and whether a request was sent

Not here: Celery, the job store, RunPod's GraphQL. Errors are those of ``celery_runpod/errors``, and nothing else of
celery_runpod is imported.
"""

from celery_runpod.api._answers import FINAL_STATES, Health, Job, Policy, parse_job
from celery_runpod.api._billing import BillingPeriod, BillingRow
from celery_runpod.api._catalog import GpuType
from celery_runpod.api._endpoints import ServerlessEndpoint, ServerlessWorker
from celery_runpod.api._endpointspec import EndpointChanges, EndpointSpec
from celery_runpod.api._management import ManagementClient
from celery_runpod.api._payload import check_input
from celery_runpod.api._pods import POD_STATUSES, LogLine, Pod
from celery_runpod.api._podspec import PodChanges, PodSpec
from celery_runpod.api._serverless import RunPodClient

__all__ = [
    "FINAL_STATES",
    "POD_STATUSES",
    "BillingPeriod",
    "BillingRow",
    "EndpointChanges",
    "EndpointSpec",
    "GpuType",
    "Health",
    "Job",
    "LogLine",
    "ManagementClient",
    "Pod",
    "PodChanges",
    "PodSpec",
    "Policy",
    "RunPodClient",
    "ServerlessEndpoint",
    "ServerlessWorker",
    "check_input",
    "parse_job",
]
