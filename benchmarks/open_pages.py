"""What open pages cost one ASGI process: CPU, memory, threads, connections to Redis; and from a change to the page.

Bounded: about two minutes. Run: `python benchmarks/open_pages.py`. One page is the anchor of hundreds in the same run.
The pages are streams of events (docs/live.md) from Django on uvicorn. Their jobs wait for a countdown, so that workers
are idle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import requests
from celery import Celery, group
from measuring import HERE, bench, cpu_s, machine, spread

from celery_runpod import Endpoint, JobResult
from celery_runpod._devstack.stack import Server, free_port

WITHIN_S = 120.0
AT_A_TIME = 50
CHANGES = 20


def asgi() -> Any:
    """The web process: everybody may see every job."""
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="celery_runpod.django.urls",
        INSTALLED_APPS=["celery_runpod.django"],
        RUNPOD={"MAY_SEE": lambda request, task_id: True},
    )
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


class Page:
    """One open page; `seen` is the latest progress."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.seen: Any = None
        self.opened, self.changed = asyncio.Event(), asyncio.Event()

    async def read(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /job/events?task={self.task_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        try:
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    self.seen = json.loads(line.removeprefix(b"data: "))["progress"]
                    self.opened.set()
                    self.changed.set()
        finally:
            writer.close()


async def measure(ids: Sequence[str], port: int, web: Server, redis: Any, seconds: float) -> str:
    """One line of figures for so many open pages."""
    pages = [Page(task_id) for task_id in ids]
    reading: list[asyncio.Task[None]] = []
    async with asyncio.timeout(WITHIN_S + seconds):
        for start in range(0, len(pages), AT_A_TIME):
            some = pages[start : start + AT_A_TIME]
            reading += [asyncio.create_task(page.read(port)) for page in some]
            await asyncio.gather(*(page.opened.wait() for page in some))
        used, at = cpu_s(web), time.monotonic()
        await asyncio.sleep(seconds)
        share = (cpu_s(web) - used) / (time.monotonic() - at)
        process = psutil.Process(web.pid)
        redis_port = redis.connection_pool.connection_kwargs["port"]
        to_redis = [one for one in process.net_connections("tcp") if one.raddr and one.raddr.port == redis_port]
        late = await _late(pages[0], redis)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return (
        f"{len(pages)} pages: {100 * share:.1f} % of a core, {process.memory_info().rss / 2**20:.0f} MiB, "
        f"{process.num_threads()} threads, {len(to_redis)} connections to Redis, change to page {spread(late, ' s')}"
    )


async def _late(page: Page, redis: Any) -> list[float]:
    """How long changes of one job take to its page."""
    [key] = [key for key in redis.scan_iter("*:job:*", count=10_000) if key.endswith(page.task_id)]
    late = []
    for number in range(CHANGES):
        page.changed.clear()
        at = time.monotonic()
        redis.hset(key, "progress", str(number))
        await page.changed.wait()
        late.append(time.monotonic() - at)
        await asyncio.sleep(0.137)  # no multiple of the time between two looks
    return late


def begun(endpoint: Endpoint, jobs: int) -> list[str]:
    """The ids of calls that wait. Their results are dropped here, while the Redis is up from which they unsubscribe."""
    flow = group(endpoint.signature((), {"n": n}, countdown=3600) for n in range(jobs)).delay()
    return [result.id for result in flow.results]


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 400
    except requests.ConnectionError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=15.0)
    given = parser.parse_args()
    print(machine())
    with bench(["slow=synthetic:duration=60"]) as servers:
        app = Celery("open_pages", broker=servers.redis_url, backend=servers.redis_url)
        app.set_default()
        endpoint, port = Endpoint("slow", app=app), free_port()
        command = [sys.executable, "-m", "uvicorn", "open_pages:asgi", "--factory", "--port", str(port)]
        web = servers.stack.start(
            "web",
            [*command, "--log-level", "warning"],
            env={"REDIS_URL": servers.redis_url, "PYTHONPATH": str(HERE)},
            cwd=Path(HERE),
            ready=lambda _: answers(f"http://127.0.0.1:{port}/job"),
        )
        ids = begun(endpoint, given.pages)
        until = time.monotonic() + WITHIN_S
        while JobResult(ids[-1], app=app).state != "WAITING":
            if time.monotonic() > until:
                raise SystemExit(f"the calls were not accepted within {WITHIN_S:g} s")
            time.sleep(0.2)
        lines = [asyncio.run(measure(some, port, web, servers.redis, given.seconds)) for some in (ids[:1], ids)]
        print("\n".join(lines))


if __name__ == "__main__":
    main()
