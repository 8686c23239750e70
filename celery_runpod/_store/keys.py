"""The names of the store's keys in Redis.

Redis holds one hash a job and a few indexes (`docs/path-of-a-job.md`, "What is in Redis").

Not here: what a script may do with them (``scripts.py``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """Every key of one namespace.

    Keys of one endpoint share a hash tag, so that on a cluster a script may use them together; so do those of the outbox,
    and of the messages that were put aside. All others may each be on another master.
    """

    namespace: str

    def job(self, endpoint: str, task_id: str) -> str:
        return f"{self._tag(endpoint)}:job:{task_id}"

    def due(self, endpoint: str) -> str:
        """zset: task id of each open job -> when something must be decided on it: it may be submitted, a lease lapses,
        its window closes, its deadline."""
        return f"{self._tag(endpoint)}:due"

    def look(self, endpoint: str) -> str:
        """zset: task id of a job at RunPod -> when to ask RunPod about it next."""
        return f"{self._tag(endpoint)}:look"

    def undelivered(self, endpoint: str) -> str:
        """zset: task id -> when to publish `runpod.finish` again."""
        return f"{self._tag(endpoint)}:undelivered"

    def cancels(self, endpoint: str) -> str:
        """zset: RunPod job id -> when to POST /cancel again."""
        return f"{self._tag(endpoint)}:cancels"

    def cancel_keys(self, endpoint: str) -> str:
        """hash: RunPod job id -> the name of the API key that its cancel needs."""
        return f"{self._tag(endpoint)}:cancel_keys"

    def inflight(self, endpoint: str) -> str:
        """zset: task id that RunPod may be working on -> when it was submitted; 0 once it was seen in progress."""
        return f"{self._tag(endpoint)}:inflight"

    def waiting(self, endpoint: str) -> str:
        """zset: task ids that may be submitted, and wait for a place of `max_in_flight`, the gate or the budget -> their
        turn (`Job.turn`)."""
        return f"{self._tag(endpoint)}:waiting"

    def posts(self, endpoint: str) -> str:
        """zset: each POST of a new job that is under way -> from when on it is late."""
        return f"{self._tag(endpoint)}:posts"

    def post_times(self, endpoint: str, operation: str) -> str:
        """list: how long the latest answered POSTs of an operation took."""
        return f"{self._tag(endpoint)}:post_times:{operation}"

    def lengths(self, endpoint: str) -> str:
        """list: how long (s) RunPod worked on the latest jobs that ended, the newest first."""
        return f"{self._tag(endpoint)}:lengths"

    def shared(self, endpoint: str, key_hash: str) -> str:
        """hash: the job that the calls with an idempotency key share, and the hash of its input."""
        return f"{self._tag(endpoint)}:key:{key_hash}"

    def waiters(self, endpoint: str, shared_id: str) -> str:
        """set: the task ids of the calls that wait for a shared job."""
        return f"{self._tag(endpoint)}:waiters:{shared_id}"

    def cancel_refusals(self, endpoint: str) -> str:
        """hash: RunPod job id -> JSON: since when its cancel fails, how often it was tried, and why."""
        return f"{self._tag(endpoint)}:cancel_refusals"

    def next_check_at(self, endpoint: str) -> str:
        """hash: when the next check is planned, and how many before it seem lost (``plan.lua``)."""
        return f"{self._tag(endpoint)}:next_check_at"

    def checks(self, endpoint: str) -> str:
        """zset: token of a live check -> when it is given up."""
        return f"{self._tag(endpoint)}:checks"

    def pause(self, endpoint: str, operation: str) -> str:
        """hash: until when an operation is paused; that of "run" is the gate of all submits (``gate.lua``)."""
        return f"{self._tag(endpoint)}:pause:{operation}"

    def candidates(self, endpoint: str, task_id: str, attempt: int) -> str:
        """set: RunPod's job ids that webhooks named for an attempt whose submit went unanswered."""
        return f"{self._tag(endpoint)}:candidates:{task_id}:{attempt}"

    def by_job_id(self, endpoint: str, job_id: str) -> str:
        """index: RunPod's job id -> the task id of the record, or tombstone, that has or had it."""
        return f"{self._tag(endpoint)}:by_job_id:{job_id}"

    def failed(self, endpoint: str, task_id: str) -> str:
        """hash: input and continuation of a job that failed, for a retry by hand; expires."""
        return f"{self._tag(endpoint)}:failed:{task_id}"

    def purged(self, endpoint: str) -> str:
        """When the endpoint's queue at RunPod was purged by us last, in seconds since 1970."""
        return f"{self._tag(endpoint)}:purged"

    def stream(self, endpoint: str, task_id: str) -> str:
        """stream: what the handler of a job has yielded so far (``stream.lua``); expires."""
        return f"{self._tag(endpoint)}:stream:{task_id}"

    def watched(self, endpoint: str, task_id: str) -> str:
        """While it exists, somebody watches this job; expires in seconds."""
        return f"{self._tag(endpoint)}:watched:{task_id}"

    def holds(self) -> str:
        """hash: RunPod's endpoint id, or "*" for all -> since when (s) nothing is submitted, by hand. Never expires."""
        return f"{self.namespace}:holds"

    def input_bytes(self, endpoint: str) -> str:
        """The bytes of input that the open records of this endpoint hold."""
        return f"{self._tag(endpoint)}:input_bytes"

    def totals(self) -> str:
        """hash: jobs and input_bytes of the open records of all endpoints, as the leader counted them last; the
        workers' bounds most_jobs and most_input_bytes."""
        return f"{self.namespace}:totals"

    def health(self, endpoint: str) -> str:
        """hash: why jobs wait by the last look at RunPod's /health, and when the next one may be made."""
        return f"{self._tag(endpoint)}:health"

    def aside(self, endpoint: str) -> str:
        """zset: task id of a record that no worker could read -> since when, or when it was tried last."""
        return f"{self._tag(endpoint)}:aside"

    def aside_looked(self, endpoint: str) -> str:
        """While it exists, the records that were put aside are not tried again."""
        return f"{self._tag(endpoint)}:aside_looked"

    def ended(self) -> str:
        """list: endpoint and task id of the calls that ended last, the newest first."""
        return f"{self.namespace}:ended"

    def troubles(self, task_id: str) -> str:
        """How often the task of this id met an error of an unknown kind; expires."""
        return f"{self.namespace}:troubles:{task_id}"

    def aside_messages(self) -> str:
        """zset: entry of a message that no worker could run -> since when."""
        return f"{self._shared_tag}:aside:messages"

    def aside_entries(self) -> str:
        """hash: entry -> JSON of that message."""
        return f"{self._shared_tag}:aside:entries"

    def aside_bytes(self) -> str:
        """The size of all entries."""
        return f"{self._shared_tag}:aside:bytes"

    def task(self, task_id: str) -> str:
        """index: JSON of `{"endpoint", "root"}`; endpoint is None for a step that is no job (yet)."""
        return f"{self.namespace}:task:{task_id}"

    def root(self, root_id: str) -> str:
        """index, set: the task ids under a root task or a group."""
        return f"{self.namespace}:root:{root_id}"

    def endpoints(self) -> str:
        """index, zset: each endpoint with something to do -> by when a check of it must have begun."""
        return f"{self.namespace}:endpoints"

    def cancel_note(self, any_id: str) -> str:
        """a `Scope`: how much of what hangs on this id is cancelled."""
        return f"{self.namespace}:cancel:{any_id}"

    def cancel_wishes(self) -> str:
        """zset: "job:", "tree:" or "step:" and an id -> since when its cancel is wished and not carried out."""
        return f"{self.namespace}:cancel_wishes"

    def cancel_lease(self, wishes: str) -> str:
        """While it exists, a worker carries out these cancels; expires."""
        return f"{self.namespace}:cancel_lease:{wishes}"

    def cancel_repeats(self) -> str:
        """hash: a member of `cancel_wishes` -> how often its cancel was published again."""
        return f"{self.namespace}:cancel_repeats"

    def outbox(self) -> str:
        """zset: task id of a message that no worker has accepted yet -> when it was published."""
        return f"{self._shared_tag}:outbox"

    def outbox_messages(self) -> str:
        """hash: task id -> a copy of that message."""
        return f"{self._shared_tag}:outbox:messages"

    def outbox_places(self) -> str:
        """hash: task id -> its entry in `outbox_lanes`."""
        return f"{self._shared_tag}:outbox:places"

    def outbox_lanes(self) -> str:
        """zset, in the order of its members: each is JSON of a message's exchange, routing key and priority (its lane),
        when it was published, and its task id."""
        return f"{self._shared_tag}:outbox:lanes"

    def outbox_fronts(self) -> str:
        """hash: lane -> JSON: at some looks, when its oldest message had been published."""
        return f"{self._shared_tag}:outbox:fronts"

    def outbox_held(self) -> str:
        """zset: task id -> when a worker was last known to hold its message."""
        return f"{self._shared_tag}:outbox:held"

    def outbox_accepted(self) -> str:
        """zset, on a cluster: task id of a call that was accepted -> since when. Its copy is kept until its record was
        seen once more."""
        return f"{self._shared_tag}:outbox:accepted"

    def agreement(self) -> str:
        """JSON of the token by which callers find out whether they share this store
        (`celery_runpod/_publish/agreement.py`)."""
        return f"{self.namespace}:agreement"

    def celery_result(self, key: str | bytes) -> str | bytes:
        """Celery's own key of a result, as the result backend names it."""
        return key

    def leader(self) -> str:
        """The token of the worker that heals; expires."""
        return f"{self.namespace}:leader"

    def incarnation(self, master: str = "") -> str:
        """hash: which Redis process was vouched for, the workers' latest beat, and until when calls may be lost. On a
        cluster there is one for each master, by its mark (`ClusterRedis.mark_of`)."""
        return f"{self.namespace}:incarnation:{{{master}}}" if master else f"{self.namespace}:incarnation"

    def confirmed(self, endpoint: str) -> str:
        """When the intents of this endpoint were last to reach a replica (``confirm_posts.lua``); expires."""
        return f"{self._tag(endpoint)}:confirmed"

    def identity(self) -> str:
        """Which broker and result backend this namespace was begun with."""
        return f"{self.namespace}:identity"

    def workers(self) -> str:
        """zset: worker's host name -> when its heartbeat is stale."""
        return f"{self.namespace}:workers"

    @property
    def _shared_tag(self) -> str:
        return f"{{{self.namespace}}}"

    def _tag(self, endpoint: str) -> str:
        return f"{{{self.namespace}:{endpoint}}}"
