"""Sends the loads of a plan as a user's web application would, and asks for the cancels.

Not here: what is broken meanwhile (``havoc.py``), nor what must come of it (``verifier.py``).
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import chain, chord, group
from celery.canvas import Signature
from celery.result import denied_join_result

from celery_runpod import JobResult
from celery_runpod._protocol import RUN, Queues
from celery_runpod.errors import BrokerUnavailable
from tests.chaos.application import gather, note, step
from tests.chaos.plan import FAST, POISON, POISONS, USER, Load, Plan, Step
from tests.servers import World

START: dict[str, Any] = {"path": []}


class Sender:
    """`gate` is held while Redis is being restarted: a publish whose reply is lost is sent again by Celery, which is
    not what is tried here."""

    def __init__(self, world: World, plan: Plan, gate: threading.RLock) -> None:
        self.world = world
        self.plan = plan
        self.gate = gate
        self.sent: list[Load] = []
        self.cancelled: set[str] = set()
        self.refused = 0

    @property
    def jobs(self) -> int:
        return sum(load.jobs for load in self.sent)

    def run(self, started: float, look: Callable[[], None]) -> None:
        """Send everything at its time, or as soon after as it can be. `look` is called now and then."""
        todo: list[tuple[float, int, Callable[[], None]]] = []
        for number, load in enumerate(self.plan.loads):
            heapq.heappush(todo, (load.at_s, number, lambda load=load: self._send(load)))
        number = len(todo)
        while todo:
            at_s, _, act = heapq.heappop(todo)
            while (left := started + at_s - time.monotonic()) > 0:
                look()
                time.sleep(min(left, 0.25))
            before = len(self.sent)
            self._insist(act, look)
            for load in self.sent[before:]:
                if load.cancel_after_s is not None:
                    number += 1
                    when = time.monotonic() - started + load.cancel_after_s
                    heapq.heappush(todo, (when, number, lambda load=load: self._cancel(load)))
            look()

    def _insist(self, act: Callable[[], None], look: Callable[[], None]) -> None:
        """Until it is taken: BrokerUnavailable means that nothing was enqueued, so it may be sent again."""
        while True:
            try:
                with self.gate:
                    return act()
            except BrokerUnavailable:
                self.refused += 1
            look()
            time.sleep(0.2)

    def _send(self, load: Load) -> None:
        # Nobody waits for these results one by one, so none is subscribed to.
        with denied_join_result():
            self._apply(load)
        self.sent.append(load)

    def _apply(self, load: Load) -> None:
        first = load.lanes[0][0]
        if first.does == POISON:
            for lane in load.lanes:
                self._poison(lane[0])
            return
        if len(load.steps) == 1:
            endpoint = self.world.endpoint(first.does, **first.options)
            endpoint.apply_async((START,), {"mark": first.mark}, task_id=first.id, **_links(first))
            return
        lanes = [self._lane(lane) for lane in load.lanes]
        if load.body is not None:
            chord(lanes, gather.s(load.body.id).set(task_id=load.body.id)).apply_async()
        else:
            (group(lanes) if len(lanes) > 1 else lanes[0]).apply_async()

    def _poison(self, one: Step) -> None:
        """As a program without our client sends it, which checks nothing."""
        wrong = dict(POISONS[one.options["poison"]])
        value: Any = []
        for _ in range(int(wrong.pop("input", 1)) - 1):
            value = [value]
        self.world.app().send_task(
            RUN,
            args=[{"mark": one.mark, "value": value}],
            kwargs={"endpoint": FAST, **wrong},
            queue=Queues.of(self.world.namespace).run,
            task_id=one.id,
        )

    def _lane(self, lane: tuple[Step, ...]) -> Signature:
        first, *others = lane
        signatures = [self._signature(first, START), *(self._signature(one) for one in others)]
        return chain(*signatures) if others else signatures[0]

    def _signature(self, one: Step, *given: Any) -> Signature:
        if one.does == USER:
            signature = step.s(*given, one.id)
        else:
            signature = self.world.endpoint(one.does, **one.options).s(*given, mark=one.mark)
        return signature.set(task_id=one.id, **_links(one))

    def _cancel(self, load: Load) -> None:
        last = load.lanes[0][-1]
        JobResult(last.id, app=self.world.app()).cancel()
        self.cancelled.add(last.id)


def _links(one: Step) -> dict[str, Any]:
    links = {"link": one.link, "link_error": one.errback}
    return {name: [note.s(own_id).set(task_id=own_id)] for name, own_id in links.items() if own_id}
