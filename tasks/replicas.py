"""Asks whether a replica of the store has the intents of submits, before they are sent to RunPod.

A master that fails takes with it what no replica has. If that was the intent of a submit, the job would be submitted, and
paid for, a second time (docs/decisions/0020). One question is for all intents that the threads of a round have claimed by
then; what comes meanwhile is in the next one. One Redis without replicas is not asked.

Not here: what the store does for it (`celery_runpod/_store/submits.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from celery_runpod._store.submits import Post
from tasks.services import Services

log = logging.getLogger(__name__)


@dataclass
class _Question:
    """The intents that are asked for together, and what came of it."""

    posts: list[Post] = field(default_factory=list)
    answered: threading.Event = field(default_factory=threading.Event)
    confirmed: set[str] = field(default_factory=set)


class Replicas:
    """Those of one endpoint's records; used by all threads of a round of submits."""

    def __init__(self, services: Services, endpoint: str) -> None:
        self._services, self._endpoint = services, endpoint
        self._gathering, self._asking = threading.Lock(), threading.Lock()
        self._next = _Question()

    def reached(self) -> bool:
        """Whether as many replicas as are wanted follow the master now.

        Raises:
            RedisError: the store is away.
        """
        return self._ask(()) is not None

    def have(self, post: Post) -> bool:
        """Whether as many replicas as are wanted have this POST's intent. If not, or if the store is away, it must not be
        made."""
        if not self._services.settings.replicas_wanted:
            return True
        with self._gathering:
            question = self._next
            question.posts.append(post)
            first = len(question.posts) == 1
        if first:
            with self._asking:
                with self._gathering:
                    self._next = _Question()
                try:
                    question.confirmed = self._ask(question.posts) or set()
                except RedisError as error:
                    log.warning("submit.store_away", extra={"endpoint": self._endpoint, "error": str(error)})
                finally:
                    question.answered.set()
        else:
            question.answered.wait()
        return post.token in question.confirmed

    def _ask(self, posts: Iterable[Post]) -> set[str] | None:
        settings = self._services.settings
        if not settings.replicas_wanted:
            return set()
        wanted, wait_s = settings.replicas_wanted, settings.store_replicas_wait_s
        now = self._services.clock()
        found = self._services.store.submits.confirm(self._endpoint, posts, now, wanted, wait_s)
        if found is None:
            fields = {"endpoint": self._endpoint, "wanted": wanted, "waited_s": wait_s}
            log.warning(
                "submit.no_replica: nothing is submitted until replicas of the store have the intents", extra=fields
            )
        return found
