"""The names of the store's keys in Redis.

Redis holds one hash a job and a few indexes (`docs/path-of-a-job.md`, "What is in Redis").

Not here: what a script may do with them (``scripts.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _of_endpoint(name: str) -> Callable[[Keys, str], str]:
    return lambda keys, endpoint: f"{{{keys.namespace}:{endpoint}}}:{name}"


def _within_endpoint(name: str) -> Callable[[Keys, str, str], str]:
    return lambda keys, endpoint, which: f"{{{keys.namespace}:{endpoint}}}:{name}:{which}"


def _of_namespace(name: str) -> Callable[[Keys], str]:
    return lambda keys: f"{keys.namespace}:{name}"


def _within_namespace(name: str) -> Callable[[Keys, str], str]:
    return lambda keys, which: f"{keys.namespace}:{name}:{which}"


def _together(name: str) -> Callable[[Keys], str]:
    return lambda keys: f"{{{keys.namespace}}}:{name}"


@dataclass(frozen=True)
class Keys:
    """Every key of one namespace.

    Keys of one endpoint share a hash tag, so that on a cluster a script may use them together; so do those of the outbox,
    and of the messages that were put aside. All others may each be on another master.
    """

    namespace: str

    # Called with an endpoint

    due = _of_endpoint("due")
    """zset: task id of each open job -> when something must be decided on it: it may be submitted, a lease lapses,
    its window closes, its deadline."""
    look = _of_endpoint("look")
    """zset: task id of a job at RunPod -> when to ask RunPod about it next."""
    undelivered = _of_endpoint("undelivered")
    """zset: task id whose outcome was not delivered yet -> when a check delivers it."""
    cancels = _of_endpoint("cancels")
    """zset: RunPod job id -> when to POST /cancel again."""
    cancel_keys = _of_endpoint("cancel_keys")
    """hash: RunPod job id -> the name of the API key that its cancel needs."""
    inflight = _of_endpoint("inflight")
    """zset: task id that RunPod may be working on -> when it was submitted (`LOW_PRIORITY_S` later, if it is of low
    priority): so they stand as in RunPod's queue; 0 once it was seen in progress."""
    by_place = _of_endpoint("by_place")
    """zset: task ids whose next look was planned by their place in RunPod's queue (``look_earlier.lua``); expires."""
    waiting = _of_endpoint("waiting")
    """zset: task ids that may be submitted, and wait for a place of `max_in_flight`, the gate or the budget -> their
    turn (`JobRecord.turn`)."""
    posts = _of_endpoint("posts")
    """zset: each POST of a new job that is under way -> from when on it is late."""
    lengths = _of_endpoint("lengths")
    """list: how long (s) RunPod worked on the latest jobs that ended, the newest first."""
    cancel_refusals = _of_endpoint("cancel_refusals")
    """hash: RunPod job id -> JSON: since when its cancel fails, how often it was tried, and why."""
    next_check_at = _of_endpoint("next_check_at")
    """hash: when the next check is planned, and how many before it seem lost (``plan.lua``)."""
    checks = _of_endpoint("checks")
    """zset: token of a live check -> when it is given up."""
    purged = _of_endpoint("purged")
    """When the endpoint's queue at RunPod was purged by us last, in seconds since 1970."""
    input_bytes = _of_endpoint("input_bytes")
    """The bytes of input that the open records of this endpoint hold."""
    health = _of_endpoint("health")
    """hash: why jobs wait, and how many are in progress, by the last look at RunPod's /health; when that was."""
    aside = _of_endpoint("aside")
    """zset: task id of a record that no worker could read -> since when, or when it was tried last."""
    aside_looked = _of_endpoint("aside_looked")
    """While it exists, the records that were put aside are not tried again."""
    confirmed = _of_endpoint("confirmed")
    """When the intents of this endpoint were last to reach a replica (``confirm_posts.lua``); expires."""

    # Called with an endpoint and an id, a name or a hash

    job = _within_endpoint("job")
    """hash: the record of a job; after its delivery its tombstone (``record.py``)."""
    post_times = _within_endpoint("post_times")
    """list: how long the latest answered POSTs of an operation took."""
    calls = _within_endpoint("calls")
    """hash: tenth of a second -> how many calls of an operation were granted in it (``take_calls.lua``); expires."""
    shared = _within_endpoint("key")
    """hash: the job that the calls with an idempotency key share, and the hash of its input."""
    waiters = _within_endpoint("waiters")
    """set: the task ids of the calls that wait for a shared job."""
    pause = _within_endpoint("pause")
    """hash: until when an operation is paused; that of "run" is the gate of all submits (``gate.lua``)."""
    by_job_id = _within_endpoint("by_job_id")
    """index: RunPod's job id -> the task id of the record, or tombstone, that has or had it."""
    failed = _within_endpoint("failed")
    """hash: input and continuation of a job that failed, for a retry by hand; expires."""
    stream = _within_endpoint("stream")
    """stream: what the handler of a job has yielded so far (``stream.lua``); expires."""
    watched = _within_endpoint("watched")
    """While it exists, somebody watches this job; expires in seconds."""

    # Called with nothing

    holds = _of_namespace("holds")
    """hash: RunPod's endpoint id, or "*" for all -> since when (s) nothing is submitted, by hand. Never expires."""
    totals = _of_namespace("totals")
    """hash: jobs and input_bytes of the open records of all endpoints, as the leader counted them last; the
    workers' bounds most_jobs and most_input_bytes."""
    ended = _of_namespace("ended")
    """list: endpoint and task id of the calls that ended last, the newest first."""
    endpoints = _of_namespace("endpoints")
    """index, zset: each endpoint with something to do -> by when a check of it must have begun."""
    cancel_wishes = _of_namespace("cancel_wishes")
    """zset: "job:", "tree:" or "step:" and an id -> since when its cancel is wished and not carried out."""
    cancel_repeats = _of_namespace("cancel_repeats")
    """hash: a member of `cancel_wishes` -> how often its cancel was published again."""
    agreement = _of_namespace("agreement")
    """JSON of the token by which callers find out whether they share this store
    (`celery_runpod/_publish/agreement.py`)."""
    leader = _of_namespace("leader")
    """The token of the worker that heals; expires."""
    identity = _of_namespace("identity")
    """Which broker and result backend this namespace was begun with."""
    workers = _of_namespace("workers")
    """zset: worker's host name -> when its heartbeat is stale."""

    # Called with an id

    troubles = _within_namespace("troubles")
    """How often the task of this id met an error of an unknown kind; expires."""
    task = _within_namespace("task")
    """index: JSON of `{"endpoint", "root"}`; endpoint is None for a step that is no job (yet)."""
    root = _within_namespace("root")
    """index, set: the task ids under a root task or a group."""
    cancel_note = _within_namespace("cancel")
    """a `Scope`: how much of what hangs on this id is cancelled."""
    cancel_lease = _within_namespace("cancel_lease")
    """While it exists, a worker carries out these cancels; expires."""

    # Called with nothing; these share a hash tag

    aside_messages = _together("aside:messages")
    """zset: entry of a message that no worker could run -> since when."""
    aside_entries = _together("aside:entries")
    """hash: entry -> JSON of that message."""
    aside_bytes = _together("aside:bytes")
    """The size of all entries."""
    outbox = _together("outbox")
    """zset: task id of a message that no worker has accepted yet -> when it was published."""
    outbox_messages = _together("outbox:messages")
    """hash: task id -> a copy of that message."""
    outbox_places = _together("outbox:places")
    """hash: task id -> its entry in `outbox_lanes`."""
    outbox_lanes = _together("outbox:lanes")
    """zset, in the order of its members: each is JSON of a message's exchange, routing key and priority (its lane),
    when it was published, and its task id."""
    outbox_fronts = _together("outbox:fronts")
    """hash: lane -> JSON: at some looks, when its oldest message had been published."""
    outbox_held = _together("outbox:held")
    """zset: task id -> when a worker was last known to hold its message."""
    outbox_accepted = _together("outbox:accepted")
    """zset, on a cluster: task id of a call that was accepted -> since when. Its copy is kept until its record was
    seen once more."""

    # The others

    def candidates(self, endpoint: str, task_id: str, attempt: int) -> str:
        """set: RunPod's job ids that webhooks named for an attempt whose submit went unanswered."""
        return f"{{{self.namespace}:{endpoint}}}:candidates:{task_id}:{attempt}"

    def celery_result(self, key: str | bytes) -> str | bytes:
        """Celery's own key of a result, as the result backend names it."""
        return key

    def incarnation(self, master: str = "") -> str:
        """hash: which Redis process was vouched for, the workers' latest beat, and until when calls may be lost. On a
        cluster there is one for each master, by its mark (`ClusterRedis.mark_of`)."""
        return f"{self.namespace}:incarnation:{{{master}}}" if master else f"{self.namespace}:incarnation"
