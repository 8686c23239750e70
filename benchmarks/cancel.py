"""The cancel of a large group: when all of it is decided, what is still submitted, how fast its calls end.

    .venv/bin/python benchmarks/cancel.py                        # 20,000 jobs under one root, 1,000 of them at RunPod
    .venv/bin/python benchmarks/cancel.py --jobs 100000

The jobs are copies of the record of one real call. The ends are published to its queue. They are counted until the last
one is delivered, or for `--ends-s` seconds. The anchor is the rate at which a chain's second empty task runs here.
"""

from __future__ import annotations

import argparse
import time

from celery import chain
from empty import app, first, second
from measuring import accept_one, bench, machine, open_copies

from celery_runpod import cancel
from celery_runpod._store.store import JobStore

NAME = "held"
AT_RUNPOD = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs of the group (default: %(default)s)")
    parser.add_argument("--ends-s", type=float, default=3600, help="count ends for so long (default: until the last)")
    given = parser.parse_args()
    with bench(
        [f"{NAME}=synthetic:duration=3600,workers=10"], env={"RUNPOD_MOST_IN_FLIGHT": str(AT_RUNPOD)}
    ) as measured:
        app.conf.update(broker_url=measured.redis_url, result_backend=measured.redis_url)
        app.set_default()
        began = time.monotonic()
        for result in [chain(first.s(), second.s()).apply_async() for _ in range(500)]:
            result.get(timeout=60)
        chains = 500 / (time.monotonic() - began)
        store = JobStore(measured.redis, "runpod")
        job = accept_one(store, NAME, app)
        open_copies(store, job, given.jobs - 1)
        store.holds.lift(NAME)
        keys = store.keys
        while measured.redis.zcard(keys.inflight(NAME)) < AT_RUNPOD:
            time.sleep(0.1)
        began = time.monotonic()
        cancel(job.root_id, app=app)
        time.sleep(1)
        submitted = len(measured.jobs())
        stalest_s = 0.0
        while measured.redis.zcard(keys.due(NAME)):
            time.sleep(0.1)
            beats = measured.redis.zrange(keys.workers(), 0, -1, withscores=True)
            stalest_s = max([stalest_s, *(time.time() - until for _, until in beats)])
        decided_s = time.monotonic() - began
        undelivered, ends_began = measured.redis.zcard(keys.undelivered(NAME)), time.monotonic()
        left = undelivered
        while left and time.monotonic() - ends_began < given.ends_s:
            time.sleep(0.2)
            left = measured.redis.zcard(keys.undelivered(NAME))
        ends = (undelivered - left) / max(time.monotonic() - ends_began, 1e-9)
        late = len(measured.jobs()) - submitted
    print(machine())
    print(f"all {given.jobs:,} decided after {decided_s:.1f} s; submitted later than 1 s after the cancel: {late}")
    print(f"a heartbeat was stale by {max(0.0, stalest_s):.1f} s at most")
    print(f"ends a second {ends:.0f}; empty tasks a second {2 * chains:.0f}; ratio {ends / (2 * chains):.2f}")


if __name__ == "__main__":
    main()
