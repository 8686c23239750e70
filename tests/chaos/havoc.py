"""Breaks what a plan says, when it says: workers, Redis, the simulator's answers. Runs in a thread of its own.

Never killed is the user's own application worker: kombu loses a message that it popped but has not written down, and
what that worker loses is not celery-runpod's. It is ended cleanly before a restart of Redis, and started again after.

Not here: what is drawn from the seed (``plan.py``).
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from celery_runpod._devstack.stack import Server
from celery_runpod.errors import RunPodError
from tests.chaos.conftest import SHORT_WAITS
from tests.chaos.plan import QUEUED, Break, Plan, loses_answers
from tests.chaos.submits import Spoiling
from tests.servers import ROOT, World

CONCURRENCY = 2
USERS_QUEUE = "celery"
SUBMIT_TIMEOUT_S = float(SHORT_WAITS["RUNPOD_SUBMIT_TIMEOUT_S"])
GARBAGE = ("garbage", "{", "null", "[]", '{"body": 3}', '{"body": "AAAA", "headers": {}}', "[" * 5_000)
"""What no client writes into a queue."""
HINTS = ("status", "deliver")
"""With the queue of calls: what is in them can be purged without the loss of a job; calls that are missing are published
again (docs/decisions/0015), and the messages of these two are hints."""
PURGE_WAIT_S = 10.0
BRPOP_S = 1.2
"""So long may a worker still be asking for a message of a queue that it gave up."""
REDIS_ARGUMENTS = ("--appendfsync", "no", "--auto-aof-rewrite-percentage", "0")
"""What is killed is the process, not the machine: each command is written before it is answered, and that is enough.
With `everysec` a write may be put off while the disk is busy, and what was answered could be gone."""


@dataclass(frozen=True)
class Broken:
    """What was broken, and when: seconds since 1970."""

    name: str
    began: float
    ended: float


@dataclass(frozen=True)
class Rule:
    """A fault in force: from when (s since 1970), and until when (monotonic) it is wanted."""

    one: Break
    began: float
    until: float


class Havoc:
    """`gate` is held while Redis is being restarted, so that nobody publishes meanwhile. `deserters` are the workers
    that ended without having been killed; others take their place, as a supervisor would see to. `killed` are the
    processes and process groups that were, and when; `spoilings` how often answers to a POST /run were
    lost, and when; `purged` is how many jobs purges removed from RunPod's queue."""

    def __init__(self, world: World, plan: Plan, gate: threading.RLock, die_at: Path, *, workers: int) -> None:
        self.world = world
        self.plan = plan
        self.gate = gate
        self.die_at = die_at
        self.done: list[Broken] = []
        self.faults: Counter[str] = Counter()
        self.deserters: list[str] = []
        self.purged = 0
        self.killed: dict[int, float] = {}
        self.spoilings: list[Spoiling] = []
        self.trouble: BaseException | None = None
        self._number = 0
        self._armed: str | None = None
        self._rules: dict[str, Rule] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name="havoc", daemon=True)
        self._started = 0.0
        self._workers = [self._worker() for _ in range(workers)]
        self._application = self._start_application()

    def begin(self, started: float) -> None:
        """Start to break things; `started` is the monotonic time of the plan's second 0."""
        self._started = started
        self._thread.start()

    def finish(self) -> None:
        """Wait until all that the plan says has been broken; what takes longer than planned comes later."""
        self._thread.join()

    def end(self) -> None:
        """Break nothing any more, and mend what is broken.

        Raises:
            Exception: what the thread itself stumbled over.
        """
        self._stop.set()
        self._thread.join()
        self._disarm()
        self._lift(float("inf"))
        self._replace_deserters()
        if self.trouble is not None:
            raise self.trouble

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.trouble = error

    def _run(self) -> None:
        for one in self.plan.breaks:
            while (left := self._started + one.at_s - time.monotonic()) > 0:
                if self._stop.wait(min(left, 0.2)):
                    return
                self._lift(time.monotonic())
                self._note_death()
                self._replace_deserters()
            if self._stop.is_set():
                return
            began = time.time()
            self._break(one)
            if one.kind not in ("fault", "step"):
                self.done.append(Broken(one.name, began, time.time()))

    def _break(self, one: Break) -> None:
        match one.kind:
            case "kill child":
                self._kill_child(one.pick)
            case "kill worker":
                self._kill_worker(one.pick)
            case "kill frozen worker":
                # Frozen inside its BRPOP: what Redis hands it meanwhile is in its socket, and nowhere else.
                os.kill(self._chosen(one.pick).pid, signal.SIGSTOP)
                time.sleep(one.lasts_s)
                self._kill_worker(one.pick)
            case "redis terminated":
                self._restart_redis(signal.SIGTERM, one.lasts_s)
            case "redis killed":
                self._restart_redis(signal.SIGKILL, one.lasts_s)
            case "redis stopped":
                self.world.redis_server.kill(signal.SIGSTOP)
                time.sleep(one.lasts_s)
                self.world.redis_server.kill(signal.SIGCONT)
            case "redis client pause":
                self.world.redis.execute_command("CLIENT", "PAUSE", int(one.lasts_s * 1000), "ALL")
                time.sleep(one.lasts_s)
            case "garbage":
                for text in GARBAGE:
                    self.world.redis.lpush(self._queue(one.pick, "", *HINTS), text)
            case "celery purge":
                with self.world.app().connection_for_write() as fresh:
                    fresh.default_channel.queue_purge(self._queue(one.pick, "", *HINTS))
            case "purge at RunPod":
                self._purge_at_runpod()
            case "step":
                self._disarm()
                self._arm(one)
            case "fault":
                began = time.time()
                rule = self.world.fault(endpoint="*", **one.fault)
                self._rules[rule] = Rule(one, began, time.monotonic() + one.lasts_s)

    def _purge_at_runpod(self) -> None:
        """By way of a worker, as a user does; soon, when jobs wait there."""
        give_up = time.monotonic() + PURGE_WAIT_S
        while time.monotonic() < give_up:
            if any(job["status"] == "IN_QUEUE" for job in self.world.jobs(QUEUED)):
                break
            time.sleep(0.2)
            self._lift(time.monotonic())
        # It is refused while a submit is under way, and no answer comes where its worker dies.
        with suppress(RunPodError):
            self.purged += self.world.endpoint(QUEUED).purge_queue(timeout=PURGE_WAIT_S)

    def _queue(self, pick: float, *names: str) -> str:
        name = names[int(pick * len(names))]
        return f"{self.world.namespace}.{name}" if name else self.world.namespace

    # RunPod workers

    def _worker(self) -> Server:
        # A log of its own each, because the line that says "ready" is looked for in it.
        self._number += 1
        return self.world.stack.worker(f"runpod{self._number}", concurrency=CONCURRENCY, cwd=ROOT)

    def _chosen(self, pick: float) -> Server:
        return self._workers[int(pick * len(self._workers))]

    def _kill_child(self, pick: float) -> None:
        children = psutil.Process(self._chosen(pick).pid).children()
        if children:
            child = children[int(pick * 7919) % len(children)].pid
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                self.killed[child] = time.time()

    def _kill_worker(self, pick: float) -> None:
        server = self._chosen(pick)
        server.kill(signal.SIGKILL)
        self.killed[server.pid] = time.time()
        self._replace(server)

    def _replace(self, server: Server) -> None:
        self.world.stack.remove(server)
        self._workers[self._workers.index(server)] = self._worker()

    def _replace_deserters(self) -> None:
        for server in self._workers[:]:
            if server.process.poll() is not None:
                self.deserters.append(f"{server.name} ended with status {server.process.returncode}")
                self._replace(server)

    # Numbered steps

    def _arm(self, one: Break) -> None:
        # In one go: a process that reads half a name would not die.
        whole = self.die_at.with_suffix(".new")
        whole.write_text(str(one.step))
        os.replace(whole, self.die_at)
        self._armed = one.name

    def _disarm(self) -> None:
        self._note_death()
        with suppress(FileNotFoundError):
            self.die_at.unlink()
        self._armed = None

    def _note_death(self) -> None:
        if self._armed is not None and not self.die_at.exists():
            self.done.append(Broken(self._armed, time.time(), time.time()))
            self._armed = None

    # The simulator

    def _lift(self, now: float) -> None:
        over = [rule for rule, held in self._rules.items() if held.until <= now]
        if not over:
            return
        url = f"{self.world.simulator_url}/_simulator/faults"
        asked_at = time.time()
        told = {fault["id"]: fault["done"] for fault in requests.get(url, timeout=10).json()}
        told_at = time.time()
        for rule in over:
            held, done = self._rules.pop(rule), told.get(rule, 0)
            self.faults[held.one.name] += done
            requests.delete(f"{url}/{rule}", timeout=10)
            if loses_answers(held.one.fault, SUBMIT_TIMEOUT_S):
                # It may have happened once more between the two requests.
                more = Spoiling(asked_at, time.time(), held.one.fault["times"] - done)
                self.spoilings += [Spoiling(held.began, told_at, done), more]

    # Redis

    def _restart_redis(self, signum: int, away_s: float) -> None:
        servers = self.world.stack.servers
        self._end_application()
        with self.gate:
            self.world.stop_redis(signum)
            time.sleep(away_s)
            self.world.start_redis()
            # The first to be started is the last to be stopped.
            servers.insert(0, servers.pop())
        self._application = self._start_application()

    def _end_application(self) -> None:
        """Take its queue from it, wait until it holds nothing, then end it: Celery's own way of ending it hangs now and
        then, and what is killed for it loses what it had popped."""
        name = f"{self._application.name}@{socket.gethostname()}"
        app = self.world.app()
        # A connection of its own: one from the pool may be to a Redis that was restarted since.
        with app.connection_for_write() as fresh:
            app.control.cancel_consumer(USERS_QUEUE, destination=[name], reply=True, timeout=5, connection=fresh)
        give_up = time.monotonic() + 10
        time.sleep(BRPOP_S)
        while self.world.redis.hlen("unacked") and time.monotonic() < give_up:
            time.sleep(0.1)
        self.world.stack.remove(self._application)

    def _start_application(self) -> Server:
        self._number += 1
        return self.world.stack.application("tests.chaos.application", f"application{self._number}", cwd=ROOT)
