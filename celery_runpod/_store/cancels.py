"""Cancels: what was wished, the decision for many jobs at once, and what RunPod has not confirmed yet.

Not here: what a decision is (`scripts/request_cancel.lua`), and who sends it to RunPod (`tasks/outstanding.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_runpod._cluster import in_order
from celery_runpod._protocol import DAY_S, Scope
from celery_runpod._store.id_index import IdIndex
from celery_runpod._store.store_part import BATCH, Part

CANCEL_NOTE_S = int(DAY_S)


@dataclass(eq=False)
class Cancels(Part):
    """Wishes, decisions and what is left to be done at RunPod."""

    ids: IdIndex

    def note_cancel(self, ids: Iterable[str], *, scope: Scope) -> None:
        """Remember for a day that these ids are not wanted, for jobs that are not accepted yet (`Scope`)."""
        with self.redis.pipeline(transaction=False) as pipe:
            self._note_cancel(pipe, ids, scope)
            pipe.execute()

    def _note_cancel(self, pipe: Any, ids: Iterable[str], scope: Scope) -> None:
        for any_id in ids:
            # A narrower note never takes the place of a wider one.
            pipe.set(self.keys.cancel_note(any_id), scope, ex=CANCEL_NOTE_S, nx=scope != "tree")

    def wish_cancel(self, ids: Sequence[str], now: float, *, scope: Scope) -> bool:
        """As `note_cancel`, and kept until a worker has carried it out: the message that asks for it may be lost. Returns
        whether any of it is new: where several workers get one command, that is so for the first of them."""
        with self.redis.pipeline(transaction=True) as pipe:
            # The wish first: whoever carries it out writes the notes too, where this process dies in between.
            pipe.zadd(self.keys.cancel_wishes(), {f"{scope}:{any_id}": now for any_id in ids}, nx=True)
            in_order(pipe)
            self._note_cancel(pipe, ids, scope)
            return bool(pipe.execute()[0])

    def cancel_wishes(self, until: float) -> list[tuple[str, str]]:
        """(id, scope) of the cancels wished, or to be published again, before `until`."""
        found: Any = self.redis.zrangebyscore(self.keys.cancel_wishes(), "-inf", until, start=0, num=1000)
        return [(any_id, reach) for reach, _, any_id in (wish.partition(":") for wish in found)]

    def lease(self, ids: Iterable[str], *, scope: Scope, keep_s: int) -> str | None:
        """Whether nobody else carries out this cancel: then the key of a lease, for `keep_lease` and `end_lease`."""
        digest = hashlib.sha256(json.dumps([scope, sorted(ids)]).encode()).hexdigest()[:32]
        key = self.keys.cancel_lease(digest)
        return key if self.redis.set(key, "held", nx=True, ex=keep_s) else None

    def keep_lease(self, key: str, keep_s: int) -> None:
        """The cancel is still being carried out."""
        self.redis.set(key, "held", ex=keep_s)

    def end_lease(self, key: str) -> None:
        self.redis.delete(key)

    def fulfil_wishes(self, ids: Iterable[str], *, scope: Scope) -> None:
        if members := [f"{scope}:{any_id}" for any_id in ids]:
            with self.redis.pipeline(transaction=False) as pipe:
                pipe.zrem(self.keys.cancel_wishes(), *members)
                pipe.hdel(self.keys.cancel_repeats(), *members)
                pipe.execute()

    def note_repeats(self, ids: Iterable[str], now: float, *, scope: Scope, again_s: float, most: int) -> list[str]:
        """Note that the cancels of these ids were published again. The next time is after `again_s` seconds, doubled
        with each repeat up to an hour. Answers the ids that were published `most` times: they are given up."""
        members = {f"{scope}:{any_id}": any_id for any_id in ids}
        with self.redis.pipeline(transaction=False) as pipe:
            for member in members:
                pipe.hincrby(self.keys.cancel_repeats(), member, 1)
            repeats = dict(zip(members, pipe.execute(), strict=True))
        spent = [members[member] for member, times in repeats.items() if times >= most]
        due = {
            member: now + min(again_s * 2.0 ** (times - 1), 3600.0) for member, times in repeats.items() if times < most
        }
        if due:
            self.redis.zadd(self.keys.cancel_wishes(), due, xx=True)
        self.fulfil_wishes(spent, scope=scope)
        return spent

    def cancel_notes(self, ids: Iterable[str]) -> dict[str, str]:
        """Which of these ids were cancelled, and how far that goes (its scope). What was a "step" when nobody knew it is
        a "job" once it is accepted."""
        wanted = list(dict.fromkeys(ids))
        found: Any = self.redis.mget([self.keys.cancel_note(any_id) for any_id in wanted])
        return self.settled_notes(dict(zip(wanted, found, strict=True)))

    def settled_notes(self, found: Mapping[str, str | None]) -> dict[str, str]:
        """`cancel_notes`, from the notes as they were read."""
        notes = {any_id: note for any_id, note in found.items() if note}
        return {any_id: "job" if note == "step" and self.ids.is_job(any_id) else note for any_id, note in notes.items()}

    def tree_cancelled(self, ids: list[str]) -> bool:
        """Whether what hangs under any of these ids was cancelled less than a day ago; a cancel of one job alone, that
        came after its end, does not count."""
        return any(note != "job" for note in self.cancel_notes(ids).values())

    def places(self, task_ids: Iterable[str]) -> dict[str, list[str]]:
        """The jobs among these ids, by their endpoint."""
        ids = list(dict.fromkeys(task_ids))
        found: dict[str, list[str]] = {}
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            places: Any = self.redis.mget([self.keys.task(task_id) for task_id in some])
            for task_id, place in zip(some, places, strict=True):
                if place and (endpoint := json.loads(place).get("endpoint")):
                    found.setdefault(endpoint, []).append(task_id)
        return found

    def states(self, endpoint: str, task_ids: Iterable[str]) -> dict[str, str]:
        """The states of the records among these ids."""
        ids = list(task_ids)
        states: dict[str, str] = {}
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            with self.redis.pipeline(transaction=False) as pipe:
                for task_id in some:
                    pipe.hget(self.keys.job(endpoint, task_id), "state")
                states |= {task_id: state for task_id, state in zip(some, pipe.execute(), strict=True) if state}
        return states

    def request_cancels(
        self, endpoint: str, task_ids: Sequence[str], outcome: Mapping[str, Any], now: float, deliver_again_at: float
    ) -> list[str]:
        """Decide on the cancels of these jobs in one round trip; answers the ids of those that were open."""
        text = json.dumps(outcome)

        def build(pipe: Any) -> None:
            for task_id in task_ids:
                self.scripts.run(
                    "request_cancel",
                    endpoint=endpoint,
                    task_id=task_id,
                    outcome=text,
                    now=now,
                    deliver_again_at=deliver_again_at,
                    on=pipe,
                )

        words = self.scripts.together(build)
        return [task_id for task_id, word in zip(task_ids, words, strict=True) if word == "cancelled"]

    def put_off_cancels(self, endpoint: str, until: float, keep_s: int = 600) -> None:
        """Send no cancel of this endpoint to RunPod until then, however many are due."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hset(self.keys.pause(endpoint, "cancel"), "until", repr(until))
            pipe.expire(self.keys.pause(endpoint, "cancel"), keep_s)
            pipe.execute()

    def lease_cancels(self, endpoint: str, now: float, again_at: float, batch: int) -> list[tuple[str, str]]:
        """(RunPod job id, name of the API key) of the jobs to cancel now."""
        flat = self.scripts.run("lease_cancels", endpoint=endpoint, now=now, again_at=again_at, batch=batch)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def cancel_failed(
        self,
        endpoint: str,
        job_id: str,
        why: str,
        now: float,
        *,
        base_s: float,
        cap_s: float,
        most_s: float,
        gone: str,
        gone_s: float | None,
    ) -> tuple[str, int, float]:
        """("later" | "given_up" | "unknown", how often it has failed, since when); the wait doubles with each failure.
        `gone`: by which error RunPod says that it does not know the job; where it goes on saying so, the cancel is given
        up after `gone_s`."""
        word, *rest = self.scripts.run(
            "cancel_failed",
            endpoint=endpoint,
            job_id=job_id,
            why=why,
            now=now,
            base=base_s,
            cap=cap_s,
            most=most_s,
            gone=gone,
            gone_most=gone_s,
        )
        return word, int(rest[0]) if rest else 0, float(rest[1]) if rest else now

    def settle_cancel(self, endpoint: str, job_id: str) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrem(self.keys.cancels(endpoint), job_id)
            pipe.hdel(self.keys.cancel_keys(endpoint), job_id)
            pipe.hdel(self.keys.cancel_refusals(endpoint), job_id)
            pipe.execute()
