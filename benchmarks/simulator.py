"""How many requests a second the simulator answers: /run, /status and both, on a synthetic endpoint, on loopback.

Bounded: a few seconds. Run: `python benchmarks/simulator.py [seconds]`. The client shares the machine with the server,
so the numbers are a lower bound; the server's own CPU time is what `per core` divides by.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import aiohttp

CLIENTS = 32
START = "from celery_runpod._cli.simulator_command import simulator; simulator()"
OPTIONS = ["--port", "0", "--no-limits", "--endpoint", "fast=synthetic:duration=0.05"]


def cpu_s(pid: int) -> float:
    """CPU seconds of a process (Linux)."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(address: str, pid: int, what: str, seconds: float) -> str:
    """One line of the table."""
    done = 0
    until = time.monotonic() + seconds
    headers = {"Authorization": "Bearer any"}

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal done
        job_id = ""
        while time.monotonic() < until:
            if what != "status" or not job_id:
                async with session.post(f"{address}/v2/fast/run", json={"input": {"prompt": "a bee"}}) as answer:
                    job_id = (await answer.json())["id"]
                done += 1
            if what != "run":
                async with session.get(f"{address}/v2/fast/status/{job_id}") as answer:
                    await answer.read()
                done += 1

    before = cpu_s(pid)
    started = time.monotonic()
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))
    rate = done / (time.monotonic() - started)
    used = cpu_s(pid) - before
    return f"{what:<12} {rate:>8.0f} requests/s {done / used:>8.0f} per core and second"


def main() -> None:
    seconds = min(30.0, float(sys.argv[1])) if len(sys.argv) > 1 else 3.0
    env = {name: value for name, value in os.environ.items() if name != "RUNPOD_API_KEY"}
    server = subprocess.Popen([sys.executable, "-c", START, *OPTIONS], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        for what in ("run", "status", "run+status"):
            print(asyncio.run(measure(address, server.pid, what, seconds)))
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
