"""`celery-runpod simulator`: a local RunPod until it is stopped.

Next: `celery_runpod/simulator/server.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import click
from aiohttp import web

from celery_runpod.simulator_mine.control import Control
from celery_runpod.simulator_mine.faults import WrongFault
from celery_runpod.simulator_mine.server import Simulator
from celery_runpod.simulator_mine.specs import WrongSpec, parse_spec


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8900, show_default=True, help="0 takes a free one.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="NAME=SPEC", help="handler.py[,workers=3,idle=5] or "
              "synthetic:duration=2,jitter=0,delay=0,failures=0,output_bytes=0,workers=0")  # fmt: skip
@click.option("--faults", type=click.Path(path_type=Path), help="A TOML file with [[fault]] tables.")
@click.option("--limits/--no-limits", default=True, help="RunPod's rate limits.")
@click.option("--retention", type=float, help="Seconds that results are kept, instead of RunPod's 30 and 1 minutes.")
@click.option("--webhook-retry-delay", type=float, default=10.0, show_default=True, help="Seconds.")
def simulator(
    host: str,
    port: int,
    endpoints: tuple[str, ...],
    faults: Path | None,
    limits: bool,
    retention: float | None,
    webhook_retry_delay: float,
) -> None:
    """Serve a local RunPod. Any API key but RUNPOD_API_KEY is refused; without that variable any key is taken."""
    try:
        specs = [parse_spec(text) for text in endpoints]
    except WrongSpec as error:
        raise click.ClickException(str(error)) from None
    if not specs:
        raise click.ClickException("no endpoint: give --endpoint NAME=handler.py or NAME=synthetic:duration=2")

    async def serve() -> None:
        local = Simulator(
            specs,
            api_key=os.environ.get("RUNPOD_API_KEY") or None,
            limits=limits,
            retention_s=retention,
            webhook_retry_delay_s=webhook_retry_delay,
        )
        if faults is not None:
            local.faults.load(faults)
        app = local.application()
        Control(local).add_routes(app)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=1024, shutdown_timeout=0.5)
        try:
            await site.start()
            taken = runner.addresses[0][1]
            reached = "127.0.0.1" if host in ("0.0.0.0", "::") else host
            local.address = f"http://{reached}:{taken}"
            stopped = asyncio.Event()
            for signum in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
            click.echo(f"RunPod simulator ready at {local.address}")
            await stopped.wait()
        finally:
            await local.close()
            await runner.cleanup()

    try:
        asyncio.run(serve())
    except WrongFault as error:
        raise click.ClickException(f"--faults: {error}") from None
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
