"""Creating a pod or an endpoint no more than once, though RunPod has no idempotency key: the name is the key.

A POST that creates a pod can answer 500 although the pod exists and is paid for (transformerlab-app#2305). So:

    before    a name that the caller gave must be free (NameTaken); one that is made here has a random end
    answered  the thing, or a refusal (any 4xx): as it is
    unknown   (a 5xx, a lost answer, one that cannot be read) looked up by its name, a few times:
              one is found: returned as if it had been answered; none, or two: CreateUnconfirmed. Never sent again.

One risk is left: if two processes create with the same given name at the same moment, one may return the other's pod or
endpoint. A name that is made here is unique.

Not here: HTTP, and what a pod or an endpoint is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from celery_runpod.errors import BadAnswer, CreateUnconfirmed, NameTaken, RateLimited, RunPodError, Unavailable

LOOKS_AFTER_S = (0.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses before the looks for what may have been created: RunPod's lists lag behind."""

FLASHBOOT_SUFFIX = " -fb"
"""RunPod has marked endpoints with flashboot by this end of their names (runpodctl#261, tandemn-tuna#22)."""

ENDED = "TERMINATED"


class Named(Protocol):
    """What is read of a pod or an endpoint."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


def made_name(kind: str) -> str:
    """A name that no other pod or endpoint has."""
    return f"celery-runpod-{kind}-{secrets.token_hex(6)}"


def refuse_taken(kind: str, name: str, existing: Sequence[Named]) -> None:
    """Raises NameTaken for a name that one of these has."""
    for found in _named(name, existing):
        raise NameTaken(kind, name, found.id)


def create_once(
    kind: str,
    name: str,
    post: Callable[[], T],
    look: Callable[[], Sequence[T]],
    sleep: Callable[[float], None],
) -> T:
    """What `post` creates, also if its answer was lost. `look` lists what there is.

    Raises:
        CreateUnconfirmed: whether it was created is unknown.
        RequestRejected, RateLimited, Unavailable with `sent` False: from `post`; nothing was created.
    """
    try:
        return post()
    except (Unavailable, BadAnswer) as error:
        if isinstance(error, Unavailable) and not error.sent:
            raise
        problem = str(error)
    for pause_s in LOOKS_AFTER_S:
        sleep(pause_s)
        found = _named(name, _looked(look, sleep))
        if len(found) == 1:
            return found[0]
        if found:
            # Another process created one under the same name: which is ours is unknown.
            problem += f"; {len(found)} of this name are listed"
            break
    raise CreateUnconfirmed(kind, name, problem)


def _looked(look: Callable[[], Sequence[T]], sleep: Callable[[float], None]) -> Sequence[T]:
    try:
        return look()
    except RateLimited as error:
        sleep(min(error.retry_after_s or 0.0, LOOKS_AFTER_S[-1]))
    except RunPodError:
        # Whatever the error of a look is, the caller must learn that the resource may exist: CreateUnconfirmed.
        return ()
    return ()


def _named(name: str, existing: Sequence[T]) -> list[T]:
    return [one for one in existing if is_called(one, name) and getattr(one, "status", None) != ENDED]


def is_called(thing: Named, name: str) -> bool:
    """Whether this is what was created under that name."""
    return thing.name in (name, f"{name}{FLASHBOOT_SUFFIX}")
