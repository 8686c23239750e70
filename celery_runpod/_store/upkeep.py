"""What the store keeps beside the jobs: pauses of the API, the outbox, wishes to cancel, notes of workers.

Not here: the jobs themselves (``store.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kombu.utils.json import loads
from redis import Redis
from redis.exceptions import ResponseError

from celery_runpod._protocol import Scope
from celery_runpod._store.reader import RecordReader
from celery_runpod._store.states import lua_prelude

_SCRIPTS = Path(__file__).parent / "scripts"

TROUBLES_KEPT_S = 86_400

PAUSE_BASE_S, PAUSE_CAP_S = 1.0, 60.0
"""The first pause after trouble with RunPod's API, and the longest (`pause_wait` in ``gate.lua``)."""


@cache
def script_source(name: str) -> str:
    """The Lua of a transition. The table of states, ``gate.lua``, ``lease.lua`` and ``inputs.lua`` precede it."""
    shared = "".join((_SCRIPTS.parent / f"{part}.lua").read_text() for part in ("gate", "lease", "inputs"))
    return lua_prelude() + shared + (_SCRIPTS / f"{name}.lua").read_text()


@dataclass(frozen=True)
class Kept:
    """A call in the outbox: when its message was published, when it was last known to be in its queue, where it went."""

    task_id: str
    issued_at: float
    last_seen: float
    exchange: str
    routing_key: str
    priority: int | None


@dataclass(frozen=True)
class Epoch:
    """`settled`: the workers know this Redis process. Calls begun until `fence` (s since the epoch, 0: none) may have
    been submitted in a time that the store has lost."""

    settled: bool
    fence: float


class Upkeep(RecordReader):
    """Runs the scripts, and keeps the notes that are no job's."""

    def __init__(
        self, redis: Redis, namespace: str, *, tombstone_ttl_s: float = 2 * 86_400.0, key_ttl_s: float = 86_400.0
    ) -> None:
        super().__init__(redis, namespace)
        self.tombstone_ttl_s = int(tombstone_ttl_s)
        self.key_ttl_s = int(key_ttl_s)
        self._scripts = {path.stem: redis.register_script(script_source(path.stem)) for path in _SCRIPTS.glob("*.lua")}

    def _run(self, script: str, keys: list[str], *args: str | float | int, on: Any = None) -> Any:
        """Run a script now, or as part of a pipeline."""
        return self._scripts[script](keys=keys, args=[_arg(arg) for arg in args], client=on)

    def _ending_keys(self, endpoint: str, task_id: str) -> list[str]:
        keys = self.keys
        return [
            keys.job(endpoint, task_id),
            keys.due(endpoint),
            keys.undelivered(endpoint),
            keys.inflight(endpoint),
            keys.cancels(endpoint),
            keys.cancel_keys(endpoint),
            keys.waiting(endpoint),
            keys.input_bytes(endpoint),
        ]

    # Pauses

    def pause(self, endpoint: str, operation: str, now: float, retry_after_s: float | None, spread: float) -> float:
        """Pause an operation of an endpoint; answers until when."""
        retry_after = "" if retry_after_s is None else retry_after_s
        args = (now, retry_after, PAUSE_BASE_S, PAUSE_CAP_S, spread)
        return float(self._run("pause", [self.keys.pause(endpoint, operation)], *args))

    def paused_until(self, endpoint: str, operation: str) -> float | None:
        """Until when, also when that time is past: then the operation works again, unless `unpause` was called."""
        found: Any = self.redis.hget(self.keys.pause(endpoint, operation), "until")
        return None if found is None else float(found)

    def unpause(self, endpoint: str, operation: str) -> None:
        self.redis.delete(self.keys.pause(endpoint, operation))

    # The outbox: copies of calls that no worker has accepted yet

    def kept_messages(self, until: float, most: int) -> list[Kept]:
        """The oldest calls published before `until`."""
        found: Any = self.redis.zrangebyscore(self.keys.outbox(), "-inf", until, start=0, num=most, withscores=True)
        if not found:
            return []
        ids = [task_id for task_id, _ in found]
        places: Any = self.redis.hmget(self.keys.outbox_places(), ids)
        seen: Any = self.redis.zmscore(self.keys.outbox_waiting(), ids)
        rows = zip(found, places, seen, strict=True)
        return [
            Kept(task_id, at, max(at, last or 0.0), **json.loads(place)) for (task_id, at), place, last in rows if place
        ]

    def copy_of_message(self, task_id: str) -> dict[str, Any] | None:
        """`body`, `headers` and `properties` of a kept message."""
        text: Any = self.redis.hget(self.keys.outbox_messages(), task_id)
        return None if text is None else dict(loads(text))

    def note_in_queue(self, task_ids: list[str], now: float) -> None:
        """These calls' messages are in their queue now."""
        if task_ids:
            self._run("note_in_queue", [self.keys.outbox(), self.keys.outbox_waiting()], now, *task_ids)

    def count_trouble(self, task_id: str) -> int:
        """How often the task of this id has met an error of an unknown kind, this one included."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.incr(self.keys.troubles(task_id))
            pipe.expire(self.keys.troubles(task_id), TROUBLES_KEPT_S)
            return int(pipe.execute()[0])

    # Wishes to cancel

    def cancel_wishes(self, until: float) -> list[tuple[str, str]]:
        """(id, scope) of the cancels wished, or to be published again, before `until`."""
        found: Any = self.redis.zrangebyscore(self.keys.cancel_wishes(), "-inf", until, start=0, num=1000)
        return [(any_id, reach) for reach, _, any_id in (wish.partition(":") for wish in found)]

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
        return {any_id: "job" if note == "step" and self.is_job(any_id) else note for any_id, note in notes.items()}

    # Bounds

    def count(self, endpoint: str) -> tuple[int, int]:
        """Open jobs of an endpoint, and the bytes of their inputs."""
        own = self.keys
        keys = [own.due(endpoint), own.undelivered(endpoint), own.aside(endpoint), own.input_bytes(endpoint)]
        jobs, input_bytes = self._run("count", keys)
        return int(jobs), int(input_bytes)

    def note_totals(self, jobs: int, input_bytes: int, most_jobs: int, most_input_bytes: int) -> None:
        """What all endpoints hold together, for callers to read."""
        counts = {
            "jobs": jobs,
            "input_bytes": input_bytes,
            "most_jobs": most_jobs,
            "most_input_bytes": most_input_bytes,
        }
        self.redis.hset(self.keys.totals(), mapping=counts)

    # A worker's own notes

    def heartbeat(self, hostname: str, now: float, fresh_s: float) -> None:
        """Refresh this worker's heartbeat; `fresh_s=0` removes it. Callers read it to report NO_WORKER."""
        with self.redis.pipeline(transaction=False) as pipe:
            if fresh_s:
                pipe.zadd(self.keys.workers(), {hostname: now + fresh_s})
            else:
                pipe.zrem(self.keys.workers(), hostname)
            pipe.zremrangebyscore(self.keys.workers(), "-inf", now - 3600)
            pipe.execute()

    def beat(self, now: float, remembered: float | None, lost_s: float, grace_s: float) -> str:
        """ "ok" | "restarted" | "went_back": whether this Redis process holds what the workers remember; "unknown" where
        INFO is forbidden, as some services do."""
        server = self._server()
        if server is None:
            return "unknown"
        known = "" if remembered is None else remembered
        return str(self._run("beat", [self.keys.epoch()], server, now, known, lost_s, grace_s))

    def _server(self) -> str | None:
        """Which Redis process answers: another one after each start. None where INFO is forbidden."""
        try:
            found: Any = self.redis.info("server")
        except ResponseError as error:
            found = error
        return self._serving(found)

    def _serving(self, found: Any) -> str | None:
        """`_server` from the answer to INFO, or its refusal."""
        return None if isinstance(found, ResponseError) else str(found.get("run_id", ""))

    def server_time(self) -> tuple[int, int]:
        """Redis' own clock: seconds and microseconds."""
        found: Any = self.redis.time()
        return int(found[0]), int(found[1])

    def identity(self, mine: str) -> str:
        """What the namespace was begun with; what is given, if it begins now."""
        self.redis.set(self.keys.identity(), mine, nx=True)
        found: Any = self.redis.get(self.keys.identity())
        return str(found)


def _arg(arg: str | float | int) -> str | int:
    return repr(arg) if isinstance(arg, float) else arg
