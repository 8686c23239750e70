"""[2 of 8] The wire format: task names, queues, and how the input of a call is merged.

Everything that one process writes and another reads is named here, so that a change is seen as one. Messages and
records carry `format`; a process leaves alone what a newer version wrote, and reads the version before its own.

Not here: the options of a call (``options.py``), key names (``_store/reader.py``), what may follow what
(``_store/states.py``).

Next: ``tasks/run.py``, where a worker takes the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from celery_runpod.errors import InvalidInput

FORMAT = 1

RUN = "runpod.run"
CHECK_STATUS = "runpod.check_status"
FINISH = "runpod.finish"
CANCEL = "runpod.cancel"
HEALTH = "runpod.health"
PURGE_QUEUE = "runpod.purge_queue"
RETRY = "runpod.retry"
PAUSE = "runpod.pause"
RESUME = "runpod.resume"
EVERY_ENDPOINT = "*"
WAIT_FOR_POD = "runpod.pods.wait"
CONTROL = (HEALTH, PURGE_QUEUE, RETRY, PAUSE, RESUME, WAIT_FOR_POD)
"""Asked by a caller who waits for the answer; served on the queue of deliveries, because each is short."""
TASK_NAMES = (RUN, CHECK_STATUS, FINISH, CANCEL, *CONTROL)
"""All but the tasks around ManagementClient, which ``api/_operations.py`` names."""

Scope = Literal["tree", "job", "step"]
"""Scope of a cancel. tree: every job under the same root. job: this job alone. step: this job or, if the id is no job
yet, the jobs before it; resolved when the cancel runs."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

HIDDEN = "<input hidden>"
"""Shown instead of arguments in logs, events and Flower."""

DEFAULT_QUEUE = "default"
"""The queue of the tasks that `RUNPOD_IMPORTS` names, and of a client that has no Celery app of its own."""

DAY_S = 86_400.0
DEFAULT_DEADLINE_S = 6 * 3600.0


@dataclass(frozen=True)
class Queues:
    """The three queues of a namespace."""

    run: str
    status: str
    deliver: str

    @classmethod
    def of(cls, namespace: str) -> Queues:
        return cls(run=namespace, status=f"{namespace}.status", deliver=f"{namespace}.deliver")

    def all(self) -> tuple[str, str, str]:
        return (self.run, self.status, self.deliver)


def merge_input(inputs: tuple[Any, ...] | list[Any], fields_: Mapping[str, Any], endpoint: str) -> Any:
    """The job's input from what a message carries.

    `inputs` are at most two: the result of the previous task in a chain, and the positional input. Fields are merged
    over the input, the input over the previous result.

    Raises:
        InvalidInput: a dict was to be merged over something that is not one, or there are too many inputs.
    """
    if len(inputs) > 2:
        raise InvalidInput(f"{len(inputs)} positional arguments given; allowed: one input", endpoint)
    layers = [*inputs, dict(fields_)] if fields_ else list(inputs)
    if not layers:
        return {}
    merged = layers[0]
    for layer in layers[1:]:
        if not isinstance(merged, Mapping) or not isinstance(layer, Mapping):
            raise InvalidInput(
                f"cannot merge {type(layer).__name__} over {type(merged).__name__}: only a dict goes over a dict "
                "(in a chain, use .si(...) where the previous result is not the input)",
                endpoint,
            )
        merged = {**merged, **layer}
    return merged
