"""`celery-runpod dev`: Redis, a local RunPod, a RunPod worker and Flower, until Ctrl-C.

A project in development can use them: the command prints their addresses and the lines to export. Not for production:
nothing is kept.
"""

from __future__ import annotations

import json
import secrets
import sys

import click

from celery_runpod._cli.output import echo
from celery_runpod._demo import APPLICATION, HANDLER
from celery_runpod._devstack.stack import Stack, cli, free_port, listens, local_stack
from celery_runpod._devstack.stop_signals import Interrupted
from celery_runpod.errors import ConfigurationError

LOOK_S = 1.0
TILE = {"left": 0, "top": 0, "size": [64, 64], "picture": [256, 256]}
"""An input of the demo's endpoint."""
PORT = click.IntRange(0, 65535)


@click.command()
@click.option(
    "--endpoint",
    "endpoints",
    metavar="NAME=HANDLER.PY[,...]",
    multiple=True,
    help="An endpoint of the simulator, as `celery-runpod simulator --endpoint`; by default the demo's `tiles`.",
)
@click.option("--redis-port", type=PORT, default=0, help="By default a free one.")
@click.option("--simulator-port", type=PORT, default=0, help="By default a free one.")
@click.option("--flower-port", type=PORT, default=0, help="By default a free one.")
def dev(endpoints: tuple[str, ...], redis_port: int, simulator_port: int, flower_port: int) -> None:
    """Keep Redis, the simulator, a RunPod worker and Flower running until Ctrl-C."""
    for name, port in (("redis", redis_port), ("simulator", simulator_port), ("flower", flower_port)):
        if port and listens(port):
            raise ConfigurationError(f"port {port} is taken: choose another --{name}-port")
    try:
        with local_stack("dev") as (stack, signals):
            served = list(endpoints) or [f"tiles={HANDLER},workers=2,idle=30"]
            stack.begin(served, click.echo, redis_port=redis_port or None, simulator_port=simulator_port)
            if not endpoints:
                click.echo("starting the demo application's worker")
                stack.application(APPLICATION)
            click.echo("starting Flower")
            flower = _flower(stack, flower_port or free_port())
            tried = served[0].partition("=")[0], "{}" if endpoints else json.dumps(TILE)
            for line in _addresses(stack, flower, *tried):
                echo(line)
            while True:
                stack.check()
                signals.wait(LOOK_S)
    except Interrupted as interrupted:
        click.echo("stopped", err=True)
        # Ctrl-C is the ordinary end of this command; another signal is not.
        sys.exit(0 if interrupted.status == 130 else interrupted.status)


def _flower(stack: Stack, port: int) -> str:
    """Start Flower, and return its address with the password that was made for this run."""
    login = f"dev:{secrets.token_urlsafe(9)}"
    # In the environment, because other users of the machine can read a command line.
    command, env = [*cli("flower"), f"--port={port}"], {"FLOWER_BASIC_AUTH": login}
    stack.start("flower", command, env=env, ready=lambda _: listens(port))
    return f"http://{login}@127.0.0.1:{port}"


def _addresses(stack: Stack, flower: str, endpoint: str, given: str) -> list[str]:
    exported = ("REDIS_URL", "RUNPOD_BASE_URL", "RUNPOD_REST_URL", "RUNPOD_API_KEY")
    return [
        "",
        f"Redis      {stack.env['REDIS_URL']}",
        f"simulator  {stack.env['RUNPOD_BASE_URL']}",
        f"Flower     {flower}",
        f"logs       {stack.folder}",
        "",
        "In the shell of your project:",
        *(f"export {name}={stack.env[name]}" for name in exported),
        "",
        f"Try it:  celery-runpod run {endpoint} --input '{given}'",
        "Ctrl-C stops everything.",
    ]
