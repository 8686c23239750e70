"""`celery-runpod webhooks`: takes RunPod's webhooks, for those who have no web application of their own.

Next: `celery_runpod/flask.py`.
"""

from __future__ import annotations

from typing import Any

import click
from gunicorn.app.base import BaseApplication

from celery_runpod.cli.stack import service_root
from celery_runpod.clientapp import client_settings
from celery_runpod.errors import ConfigurationError
from celery_runpod.flask import create_app


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn without its own command line."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return create_app()


def _settings() -> dict[str, Any]:
    """config/gunicorn.py, read as gunicorn reads such a file."""
    found: dict[str, Any] = {}
    exec((service_root() / "config" / "gunicorn.py").read_text(), found)
    return {name: value for name, value in found.items() if not name.startswith("__")}


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65_535))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes.")
def webhooks(host: str, port: int, workers: int) -> None:
    """Serve the webhook view under gunicorn, at /runpod/webhook."""
    if not client_settings().webhook_secret:
        raise ConfigurationError("RUNPOD_WEBHOOK_SECRET is not set: every webhook would have to be refused")

    def ready(_: Any) -> None:
        click.echo(f"webhooks ready at http://{host}:{port}/runpod/webhook")

    _Server({**_settings(), "bind": f"{host}:{port}", "workers": workers, "when_ready": ready}).run()
