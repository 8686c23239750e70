"""How long a chunk takes from the handler's `yield` to the reader of `JobResult.astream`, for one stream and for several.

Bounded: about two minutes. Run: `python benchmarks/streams.py`. The handler yields the time every 0.2 s, on the local
RunPod, so what is measured is this project's part: RunPod's own network comes on top. The anchor in the same run is
`RunPodClient.stream`, which asks RunPod itself and can have one reader.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from celery import Celery
from measuring import Bench, bench, machine

from celery_runpod import Endpoint
from celery_runpod.api import RunPodClient

HANDLER = """
import asyncio, time, runpod


async def handler(job):
    for _ in range(job["input"]["chunks"]):
        await asyncio.sleep(job["input"]["every_s"])
        yield time.time()


runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda current: 100})
"""


async def read(endpoint: Endpoint, chunks: int, every_s: float, delays_s: list[float]) -> None:
    result = await endpoint.adelay(chunks=chunks, every_s=every_s)
    async for chunk in result.astream(timeout=chunks * every_s + 60):
        delays_s.append(time.time() - chunk.output)


def ours(endpoint: Endpoint, streams: int, chunks: int, every_s: float) -> list[float]:
    """Seconds from `yield` to reader, of each chunk of so many streams at once."""
    delays_s: list[float] = []

    async def all_of_them() -> None:
        await asyncio.gather(*(read(endpoint, chunks, every_s, delays_s) for _ in range(streams)))

    asyncio.run(all_of_them())
    return delays_s


def anchor(measured: Bench, chunks: int, every_s: float) -> list[float]:
    """The same of one job that is asked for without Celery."""
    delays_s = []
    with RunPodClient("benchmark", base_url=f"{measured.address}/v2") as client:
        job = client.run("words", {"chunks": chunks, "every_s": every_s})
        for said in client.stream("words", job.id):
            delays_s.append(time.time() - said)
    return delays_s


def row(name: str, delays_s: Sequence[float], requests_a_chunk: str, cpu: str) -> str:
    middle, late = statistics.median(delays_s), statistics.quantiles(delays_s, n=20)[-1]
    figures = " | ".join(f"{one * 1e3:.0f} ms" for one in (middle, late, max(delays_s)))
    return f"| {name} | {figures} | {requests_a_chunk} | {cpu} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 10, 30], metavar="N")
    parser.add_argument("--chunks", type=int, default=60, help="of each stream (default: %(default)s)")
    parser.add_argument(
        "--every", type=float, default=0.2, metavar="S", help="between two chunks (default: %(default)s)"
    )
    given = parser.parse_args()
    print(machine())
    print("| | median | 95 % | longest | GET /stream a chunk | CPU of the workers |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "words.py").write_text(HANDLER)
        with bench([f"words={folder}/words.py,workers=1"]) as measured:
            app = Celery("streams", broker=measured.redis_url, backend=measured.redis_url)
            app.set_default()
            endpoint = Endpoint("words", app=app).using(stream=True)
            ours(endpoint, 1, 3, 0.1)  # workers and connections are made once
            print(row("RunPodClient.stream, 1", anchor(measured, given.chunks, given.every), "", ""), flush=True)
            for streams in given.streams:
                before, began = measured.counters(), time.monotonic()
                delays_s = ours(endpoint, streams, given.chunks, given.every)
                spent = measured.counters().since(before)
                asked = f"{spent.requests.get('stream', 0) / len(delays_s):.2f}"
                cpu = f"{spent.worker_s / (time.monotonic() - began):.0%} of a core"
                print(row(f"astream, {streams}", delays_s, asked, cpu), flush=True)
            assert threading.active_count() < 20, "readers share their threads"


if __name__ == "__main__":
    main()
