"""`endpoints`: Serverless endpoints, a managed resource, with the API key of the shell.

An endpoint is given by RunPod's id, by its name at RunPod, or by a name of this installation: a profile of
`RUNPOD_CONFIG`, or `RUNPOD_ENDPOINT_<NAME>`.

Not here: sending jobs (``job_commands.py``), an endpoint's health and queue (``worker_calls.py``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from celery_runpod._cli.output import (
    Columns,
    ask_first,
    fields_from,
    json_option,
    print_one,
    print_rows,
    say,
    yes_option,
)
from celery_runpod._cli.service_path import put_service_on_path
from celery_runpod.api import ManagementClient, ServerlessEndpoint
from celery_runpod.api._creation import is_called
from celery_runpod.errors import InvalidInput

name_argument = click.argument("name", metavar="NAME|ID")

COLUMNS: Columns = {
    "id": lambda one: one.id,
    "name": lambda one: one.name,
    "min": lambda one: one.workers_min,
    "max": lambda one: one.workers_max,
    "idle s": lambda one: one.idle_timeout_s,
    "scaler": lambda one: f"{one.scaler} {one.scaler_value:g}" if one.scaler and one.scaler_value else one.scaler,
    "on": lambda one: one.gpu_pools or one.gpu_types or one.cpu,
    "image": lambda one: one.image or one.template_id,
}
WORKER_COLUMNS: Columns = {
    "id": lambda one: one.id,
    "status": lambda one: one.status,
    "gpu": lambda one: f"{one.gpu_count or 1} x {one.gpu}" if one.gpu else None,
    "where": lambda one: one.data_center,
    "stale": lambda one: one.stale,
    "up for s": lambda one: one.uptime_s,
}


def resolve(management: ManagementClient, name: str) -> str:
    """RunPod's id for what the user calls an endpoint.

    Raises:
        InvalidInput: several endpoints have that name at RunPod.
    """
    if config := os.environ.get("RUNPOD_CONFIG"):
        put_service_on_path()
        from config.profiles import load_profiles

        if profile := load_profiles(Path(config)).get(name):
            return str(profile.id)
    variable = "".join(char if char.isalnum() else "_" for char in name).upper()
    if endpoint := os.environ.get(f"RUNPOD_ENDPOINT_{variable}"):
        return endpoint
    found = management.list_endpoints()
    if any(one.id == name for one in found):
        return name
    exactly = [one.id for one in found if one.name == name]
    named = exactly or [one.id for one in found if is_called(one, name)]
    if len(named) > 1:
        raise InvalidInput(f"{len(named)} endpoints are called {name!r} ({', '.join(named)}): give the id")
    return named[0] if named else name


@click.group()
def endpoints() -> None:
    """Serverless endpoints: list, create, scale, delete."""


@endpoints.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All Serverless endpoints of the account."""
    print_rows(ManagementClient().list_endpoints(), COLUMNS, as_json=as_json, none="no endpoint")


@endpoints.command()
@name_argument
@json_option
def get(name: str, as_json: bool) -> None:
    """One endpoint, with all that RunPod answers except its environment variables."""
    management = ManagementClient()
    print_one(management.get_endpoint(resolve(management, name)), as_json=as_json)


@endpoints.command()
@name_argument
@json_option
def workers(name: str, as_json: bool) -> None:
    """The workers that an endpoint has now."""
    management = ManagementClient()
    found = management.list_workers(resolve(management, name))
    print_rows(found, WORKER_COLUMNS, as_json=as_json, none="no worker")


@endpoints.command()
@click.option("--name", help="No other endpoint's; one is made where none is given.")
@click.option("--image", help="The workers' image (REST v2).")
@click.option("--template", "template_id", metavar="ID", help="A Serverless template.")
@click.option("--gpu-pool", "gpu_pools", multiple=True, metavar="POOL", help="ADA_24 (REST v2). Repeatable.")
@click.option("--gpu-type", "gpu_types", multiple=True, metavar="TYPE", help="NVIDIA L4 (REST v1). Repeatable.")
@click.option("--cpu", metavar="FLAVOR", help="A CPU flavor, instead of GPUs.")
@click.option("--min", "workers_min", type=int, metavar="N", help="Workers that are kept.")
@click.option("--max", "workers_max", type=int, metavar="N", help="Workers at most.")
@click.option("--idle", "idle_timeout", type=int, metavar="SECONDS", help="Until an idle worker is stopped.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="An environment variable. Repeatable.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=JSON", help="Any other field of EndpointSpec.")
@click.option("--spec", metavar="JSON|@FILE", help="The fields of an EndpointSpec; options go over them.")
@json_option
def create(env: tuple[str, ...], settings: tuple[str, ...], spec: str | None, as_json: bool, **named: Any) -> None:
    """Create an endpoint."""
    print_one(ManagementClient().create_endpoint(fields_from(spec, settings, env, named)), as_json=as_json)


@endpoints.command()
@name_argument
@click.option("--new-name", metavar="NAME")
@click.option("--image")
@click.option("--min", "workers_min", type=int, metavar="N")
@click.option("--max", "workers_max", type=int, metavar="N")
@click.option("--idle", "idle_timeout", type=int, metavar="SECONDS")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="All its variables from now on. Repeatable.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=JSON", help="Any other field of EndpointChanges.")
@json_option
def update(
    name: str, new_name: str | None, env: tuple[str, ...], settings: tuple[str, ...], as_json: bool, **named: Any
) -> None:
    """Change an endpoint; workers take up a new image one by one."""
    management = ManagementClient()
    changes = fields_from(None, settings, env, {**named, "name": new_name})
    print_one(management.update_endpoint(resolve(management, name), changes), as_json=as_json)


@endpoints.command()
@name_argument
@click.option("--min", "workers_min", type=click.IntRange(0), metavar="N", help="Workers that are kept, and paid for.")
@click.option("--max", "workers_max", type=click.IntRange(0), metavar="N", help="Workers at most.")
@json_option
def scale(name: str, workers_min: int | None, workers_max: int | None, as_json: bool) -> None:
    """Warm up before a batch (--min 1 --max 3), cool down after it (--min 0)."""
    management = ManagementClient()
    changes = fields_from(None, (), (), {"workers_min": workers_min, "workers_max": workers_max})
    found: ServerlessEndpoint = management.update_endpoint(resolve(management, name), changes)
    told = {"id": found.id, "workers_min": found.workers_min, "workers_max": found.workers_max}
    say(f"endpoint {found.id}: {found.workers_min} to {found.workers_max} workers", told, as_json=as_json)


@endpoints.command()
@name_argument
@yes_option
@json_option
def delete(name: str, yes: bool, as_json: bool) -> None:
    """Delete an endpoint for good; its queued and running jobs are cancelled."""
    management = ManagementClient()
    endpoint = resolve(management, name)
    ask_first(f"Delete endpoint {endpoint}, and cancel its jobs?", yes)
    management.delete_endpoint(endpoint)
    say(f"endpoint {endpoint} is deleted", {"id": endpoint, "deleted": True}, as_json=as_json)
