"""A user's unit tests, run as a process: every canvas under `task_always_eager`. Prints what each of them raised."""

from __future__ import annotations

import json

from celery import chain, chord, group

from celery_runpod import Endpoint
from tests.application import app, collect, same, wrap


def main() -> None:
    app.conf.task_always_eager = True
    app.conf.task_eager_propagates = True
    fast = Endpoint("fast", app=app)
    calls = {
        "delay": lambda: fast.delay(mark="eager"),
        "apply_async": lambda: fast.apply_async(({"mark": "eager"},), countdown=1),
        "signature": lambda: fast.s(mark="eager").delay(),
        "signature apply_async": lambda: fast.si({"mark": "eager"}).apply_async(),
        "first of a chain": lambda: chain(fast.s(mark="eager"), same.s()).delay(),
        "in a chain": lambda: chain(wrap.s(1), fast.s(mark="eager"), same.s()).apply_async(),
        "group": lambda: group(fast.s(mark="eager"), fast.s(mark="eager")).apply_async(),
        "chord": lambda: chord([fast.s(mark="eager"), fast.s(mark="eager")], collect.s()).apply_async(),
        "body of a chord": lambda: chord([wrap.s(1)], fast.si({"mark": "eager"})).apply_async(),
        "link": lambda: wrap.apply_async((1,), link=fast.si({"mark": "eager"})),
    }
    raised = {}
    for name, call in calls.items():
        try:
            result = call()
        except Exception as error:
            raised[name] = [type(error).__name__, str(error)[:300]]
        else:
            raised[name] = ["nothing", repr(result)]
    print(json.dumps(raised))


if __name__ == "__main__":
    main()
