"""`celery-runpod simulator`: a local RunPod, until it is interrupted.

Not here: the server (``celery_runpod/_simulator/``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from celery_runpod._simulator import endpoint_specs
from celery_runpod._simulator.faults import BadFault
from celery_runpod._simulator.management.simulated_pods import Pace
from celery_runpod._simulator.simulator_server import Settings, serve
from celery_runpod.errors import ConfigurationError


def seconds_option(name: str, default: float | None, text: str, least: float = 0) -> Callable[[Any], Any]:
    """An option for a time in seconds; its parameter is called after it, with `_s`."""
    return click.option(
        name,
        name.strip("-").replace("-", "_") + "_s",
        default=default,
        show_default=default is not None,
        type=click.FloatRange(least),
        metavar="SECONDS",
        help=text,
    )


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8900, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="NAME=...",
    help=f"{endpoint_specs.SHAPE}; times in seconds. May be repeated.",
)
@click.option(
    "--faults",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file of [[fault]] tables that are in force from the start.",
)
@click.option("--no-limits", is_flag=True, help="No rate limits, no size limits, no bounds on times.")
@seconds_option("--retention", None, "How long ended jobs are kept.")
@seconds_option("--webhook-retry-delay", 10.0, "Between the tries of a webhook.")
@seconds_option("--webhook-timeout", 10.0, "A receiver that answers later has failed.", 0.01)
@seconds_option("--pod-provisioning", 1.0, "How long a new pod is PROVISIONING.")
@seconds_option("--pod-starting", 2.0, "How long a pod is STARTING before it is RUNNING.")
@seconds_option("--pod-terminated", 2.0, "How long a deleted pod is still shown as TERMINATED; then it is 404.")
def simulator(
    host: str,
    port: int,
    endpoints: Sequence[str],
    faults: Path | None,
    no_limits: bool,
    pod_provisioning_s: float,
    pod_starting_s: float,
    pod_terminated_s: float,
    **times: Any,
) -> None:
    """A local RunPod: its Serverless jobs and its management API, for development and tests.

    Jobs are served at /v2/NAME/run and so on, the management API at /v2 (pods, serverless, catalog, billing).
    Nothing is rented: pods live and cost, without a container.
    Accepts the key in RUNPOD_API_KEY alone; any key when that is not set.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        settings = Settings(
            host=host,
            port=port,
            endpoints=endpoint_specs.parse(endpoints),
            faults=_rules(faults),
            key=os.environ.get("RUNPOD_API_KEY") or None,
            limits=not no_limits,
            pace=Pace(pod_provisioning_s, pod_starting_s, pod_terminated_s),
            **times,
        )
        asyncio.run(serve(settings, lambda address: click.echo(f"RunPod simulator ready at {address}")))
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    except BadFault as error:
        raise click.ClickException(f"--faults {faults}: {error}") from None
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _rules(path: Path | None) -> list[Any]:
    """The `[[fault]]` tables of a file."""
    if path is None:
        return []
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--faults {path}: {error}") from None
    rules = data.get("fault", [])
    if set(data) - {"fault"} or not isinstance(rules, list):
        raise ConfigurationError(f"--faults {path}: {', '.join(data)} given; allowed: [[fault]] tables alone")
    return rules
