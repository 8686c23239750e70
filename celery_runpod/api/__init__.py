"""RunPod's APIs on `requests`, without Celery: for scripts, and for the worker.

Jobs (the Serverless API):

    serverless.py    RunPodClient: the operations of an endpoint
    waiting.py       the loops: until a job has ended, for the chunks of a stream, until a pod runs
    answers.py       Job, Health, Policy: RunPod's JSON as types; milliseconds end there
    failures.py      what a FAILED job left behind, as an exception
    payload.py       what may be sent: JSON, and not too much of it

Pods and endpoints as things that are made (the REST API, v2 and v1):

    management.py    ManagementClient: pods, endpoints, GPUs, bills
    restclient.py    its base: sends a request, reads the answer
    creation.py      a create happens once, though its answer may be lost
    podspec.py       PodSpec, PodChanges: what is asked of a pod
    endpointspec.py  EndpointSpec, EndpointChanges: what is asked of an endpoint
    checks.py        what each of their fields may be
    pods.py          Pod, LogLine
    endpoints.py     ServerlessEndpoint, ServerlessWorker
    catalog.py       GpuType, with prices
    billing.py       BillingRow, BillingPeriod
    rest.py          a request as a value; what a version must know how to say
    restv2.py        how v2 says it
    restv1.py        how v1 says it

Both:

    access.py        the API key, base URLs, ids in a path
    transport.py     the one place that does HTTP
    verdicts.py      an HTTP answer: its JSON, or the error it stands for
    signatures.py    hides the signature in a webhook's URL
    ratelimits.py    how long to stay away after a 429
    depth.py         how deeply JSON is nested: measured and cut before anything parses it
    fields.py        one field of an answer, read liberally
    connections.py   deadlines on sockets, and whether a request has left

Not here: Celery, the job store, RunPod's GraphQL. Errors are those of ``celery_runpod/errors``, and nothing else of
celery_runpod is imported.
"""

from celery_runpod.api.answers import FINAL_STATES, Health, Job, Policy, parse_job
from celery_runpod.api.billing import BillingPeriod, BillingRow
from celery_runpod.api.catalog import GpuType
from celery_runpod.api.endpoints import ServerlessEndpoint, ServerlessWorker
from celery_runpod.api.endpointspec import EndpointChanges, EndpointSpec
from celery_runpod.api.management import ManagementClient
from celery_runpod.api.payload import check_input
from celery_runpod.api.pods import POD_STATUSES, LogLine, Pod
from celery_runpod.api.podspec import PodChanges, PodSpec
from celery_runpod.api.serverless import RunPodClient

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
