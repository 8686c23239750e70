"""Notices a store that holds older data than the workers remember: a Redis that was restored from an old snapshot.

Jobs that were submitted after the snapshot are WAITING in the restored store; submitted again, they would be paid for
twice. Each worker remembers the latest beat (a time) that it wrote into the store, in memory and in a small file. After a
restart of Redis nothing is submitted until every living worker has compared its beat with the store's. If the store is
older, a job that was begun before the latest remembered beat ends with SubmissionUnconfirmed instead of being submitted
(unless `RUNPOD_UNCONFIRMED_SUBMIT=resubmit`).

On a cluster each master has its own beat, under a key of its own slots: a master that was restored, or a replica that was
promoted without the latest writes, is noticed for the endpoints that it holds. Where slots have moved, a master may get
another key, which begins anew.

Not noticed: a restored store after all workers and their files are gone, or where nothing is left of those that worked
last; and a loss of less than two seconds, which Redis with AOF each second may lose anyway.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import socket
from pathlib import Path

from redis.exceptions import RedisError

from config.settings import Settings
from tasks.services import Services

log = logging.getLogger(__name__)

LOST_S = 2.0
WORST = ("ok", "unknown", "restarted", "went_back")
RECONNECT_S = 3.0
"""Within this time after Redis returns, every living worker has reconnected (pauses of up to 2.5 s)."""
MOST_GAP_S = 900.0
"""A worker that lives on knows its store again after so long without a beat, also after a restart of Redis; its file
bridges the unconfirmed window. Others, of which nothing is left, may have worked on a store that was restored since."""


class Memory:
    """The latest beat that this worker, or an earlier one on this machine, has written on each master, by its mark; since
    when there were beats without a hole; and in which life of the store (script `beat`). Times in seconds since 1970."""

    def __init__(self, file: Path | None, file_gap_s: float = 0.0) -> None:
        self._file = file
        self._file_gap_s = file_gap_s
        self._since, self.beats, self._lives = self._read()
        self._lived: set[str] = set()
        self.compared: dict[str, str] = {}
        """The life of each master that this worker has compared with while nobody had vouched for it."""

    @property
    def latest(self) -> float | None:
        """The latest of all."""
        return max(self.beats.values(), default=None)

    @property
    def since(self) -> float:
        """The store holds all that was written to it since then, or the loss was noticed; so right after a beat that was
        answered with "ok". Infinite where nothing is known."""
        return max((self._since[master] for master in self._lived), default=math.inf)

    @classmethod
    def of(cls, settings: Settings) -> Memory:
        """One file for each store and namespace. The file of an older store at the same address is harmless: it concerns
        only calls from before its last beat, and reaches back over no restart but a short one."""
        if settings.state_dir is None:
            return cls(None)
        name = hashlib.sha256(f"{settings.store_url} {settings.namespace}".encode()).hexdigest()[:24]
        return cls(settings.state_dir / f"{name}.beat", settings.unconfirmed_window_s)

    def life(self, master: str) -> str:
        """The life that this worker, or an earlier one on this machine, knew last; "" for none."""
        return self.compared.get(master) or self._lives.get(master, "")

    def keep(self, master: str, now: float, life: str) -> None:
        """Remember a beat, until `write` writes it down. The memory reaches as far back as before if it is the same life
        of the store, or if this worker was there when the new one was compared with what the workers remember."""
        before = self.beats.get(master, -math.inf)
        gap_s = MOST_GAP_S if master in self._lived else self._file_gap_s
        was_there = self.compared.pop(master, None) == life and now - before <= gap_s
        if before == -math.inf or not (self._lives.get(master) == life or was_there):
            self._since[master] = now
        self.beats[master], self._lives[master] = max(now, before), life
        self._lived.add(master)

    def begin_anew(self, master: str, now: float, life: str) -> None:
        """This life of the store lacks what was remembered."""
        self.compared.pop(master, None)
        self._since[master], self._lives[master] = now, life

    def write(self) -> None:
        """Write down what is remembered; what another worker on this machine has beaten on later stays."""
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # In containers that share a volume every worker may have the same process id.
            fresh = self._file.with_suffix(f".{socket.gethostname()}.{os.getpid()}")
            since, beats, lives = self._read()
            kept = {one: [since[one], at, lives[one]] for one, at in beats.items()}
            mine = {one: at for one, at in self.beats.items() if at >= beats.get(one, -math.inf)}
            kept |= {one: [self._since[one], at, self._lives[one]] for one, at in mine.items()}
            fresh.write_text(json.dumps(kept))
            fresh.replace(self._file)
        except OSError as error:
            log.warning("state.not_kept", extra={"file": str(self._file), "error": str(error)})
            self._file = None

    def _read(self) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
        try:
            found = json.loads(self._file.read_text()) if self._file is not None else {}
            parts = [(str(master), float(since), float(at), str(life)) for master, (since, at, life) in found.items()]
        except (OSError, ValueError, TypeError, AttributeError):
            parts = []
        return ({one[0]: one[1] for one in parts}, {one[0]: one[2] for one in parts}, {one[0]: one[3] for one in parts})


def beat(services: Services, memory: Memory) -> str:
    """Write a beat into each master of the store, and remember it; returns the worst answer of the script `beat`.

    Raises:
        redis.exceptions.RedisError: a master is away; the others have their beat.
    """
    grace_s = RECONNECT_S + services.settings.selfheal_interval_s
    answers, away = [], None
    for master in services.store.workers.masters():
        now, remembered = services.clock(), memory.beats.get(master)
        try:
            answer, life = services.store.workers.beat(now, remembered, LOST_S, grace_s, master, memory.life(master))
        except RedisError as error:
            away = error
            continue
        answers.append(answer)
        if answer == "went_back":
            lost = {"remembered": remembered, "master": master}
            log.critical("store.went_back: it holds older data than this worker remembers", extra=lost)
            memory.begin_anew(master, now, life)
        elif answer == "restarted":
            memory.compared[master] = life
        elif answer == "ok":
            memory.keep(master, now, life)
    if "ok" in answers:
        memory.write()
    if away is not None:
        raise away
    return max(answers, key=WORST.index)
