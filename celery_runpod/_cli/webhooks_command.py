"""`celery-runpod webhooks`: takes RunPod's webhooks, for those who have no web application of their own.

Not here: the server (`celery_runpod/_webhooks/webhook_server.py`).
"""

from __future__ import annotations

import click

from celery_runpod._connect import client_settings
from celery_runpod._webhooks.webhook_server import Receiver
from celery_runpod.errors import ConfigurationError
from celery_runpod.flask import create_app


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65_535))
@click.option("--threads", default=8, show_default=True, type=click.IntRange(1, 100), help="Webhooks at the same time.")
def webhooks(host: str, port: int, threads: int) -> None:
    """Serve the webhook view at /runpod/webhook, and /health."""
    if not client_settings().webhook_secret:
        raise ConfigurationError("RUNPOD_WEBHOOK_SECRET is not set: every webhook would have to be refused")
    try:
        server = Receiver(create_app(), host, port, threads)
    except OSError as error:
        raise ConfigurationError(f"cannot listen at {host}:{port}: {error.strerror or error}") from None
    click.echo(f"webhooks ready at http://{host}:{port}/runpod/webhook")
    server.run()
