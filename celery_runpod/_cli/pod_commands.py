"""`pods`: RunPod's pods from a terminal, with the API key of the shell (`RUNPOD_API_KEY`, or `RUNPOD_API_KEY_FILE`).

Not here: what a pod may have (`celery_runpod/api/_podspec.py`); the same as tasks (the worker's
`tasks/management_tasks.py`).
"""

from __future__ import annotations

from typing import Any

import click

from celery_runpod._cli.output import (
    Columns,
    ask_first,
    echo,
    fields_from,
    json_option,
    print_one,
    print_rows,
    say,
    yes_option,
)
from celery_runpod.api import ManagementClient, Pod

pod_argument = click.argument("pod_id", metavar="ID")

COLUMNS: Columns = {
    "id": lambda pod: pod.id,
    "name": lambda pod: pod.name,
    "status": lambda pod: pod.status,
    "on": lambda pod: machine(pod),
    "$/h": lambda pod: pod.usd_per_hour,
    "where": lambda pod: pod.data_center,
    "image": lambda pod: pod.image,
}


def machine(pod: Pod) -> str | None:
    """What it runs on, in a few letters."""
    if pod.gpu:
        return f"{pod.gpu_count or 1} x {pod.gpu}"
    return f"{pod.vcpus or '?'} vCPU {pod.cpu}" if pod.cpu else None


@click.group()
def pods() -> None:
    """Pods: list, create, start, stop, terminate."""


@pods.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All pods of the account."""
    print_rows(ManagementClient().list_pods(), COLUMNS, as_json=as_json, none="no pod")


@pods.command()
@pod_argument
@json_option
def get(pod_id: str, as_json: bool) -> None:
    """One pod, with all that RunPod answers except its environment variables."""
    print_one(ManagementClient().get_pod(pod_id), as_json=as_json)


@pods.command()
@click.option("--name", help="No other pod's; one is made where none is given.")
@click.option("--image", help="The container's image.")
@click.option("--template", "template_id", metavar="ID", help="A template, for what is not said here.")
@click.option("--gpu", metavar="TYPE", help="A type of GPU, as `celery-runpod gpus` lists it.")
@click.option("--gpu-count", type=int, metavar="N", help="How many of it.")
@click.option("--cpu", metavar="FLAVOR", help="A CPU flavor, instead of a GPU.")
@click.option("--vcpus", type=int, metavar="N", help="How many virtual CPUs.")
@click.option("--cloud", help="SECURE or COMMUNITY.")
@click.option("--disk-gb", type=int, metavar="GB", help="The container's disk.")
@click.option("--volume-gb", type=int, metavar="GB", help="A volume that outlives a stop.")
@click.option("--network-volume", metavar="ID", help="A network volume, instead.")
@click.option("--port", "ports", multiple=True, metavar="PORT/KIND", help="Exposed: 8888/http, 22/tcp. Repeatable.")
@click.option("--data-center", "data_centers", multiple=True, metavar="ID", help="Where it may be. Repeatable.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="An environment variable. Repeatable.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=JSON", help="Any other field of PodSpec. Repeatable.")
@click.option("--spec", metavar="JSON|@FILE", help="The fields of a PodSpec; options go over them.")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Until it is RUNNING."
)
@json_option
def create(
    env: tuple[str, ...], settings: tuple[str, ...], spec: str | None, wait_s: float | None, as_json: bool, **named: Any
) -> None:
    """Create a pod. It is billed until it is stopped or terminated."""
    management = ManagementClient()
    pod = management.create_pod(fields_from(spec, settings, env, named))
    if wait_s is not None:
        echo(f"pod {pod.id} is created; waiting until it runs", err=True)
        pod = management.wait_until_running(pod.id, wait_s)
    print_one(pod, as_json=as_json)


@pods.command()
@pod_argument
@click.option("--name")
@click.option("--image")
@click.option("--disk-gb", type=int, metavar="GB")
@click.option("--port", "ports", multiple=True, metavar="PORT/KIND")
@click.option("--locked/--unlocked", default=None, help="A locked pod cannot be stopped or reset.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="All its variables from now on. Repeatable.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=JSON", help="Any other field of PodChanges.")
@json_option
def update(pod_id: str, env: tuple[str, ...], settings: tuple[str, ...], as_json: bool, **named: Any) -> None:
    """Change a pod; its container restarts for all but the name and the lock."""
    print_one(ManagementClient().update_pod(pod_id, fields_from(None, settings, env, named)), as_json=as_json)


def _action(name: str, help_text: str) -> None:
    @pods.command(name, help=help_text)
    @pod_argument
    @json_option
    def act(pod_id: str, as_json: bool) -> None:
        pod: Pod = getattr(ManagementClient(), f"{name}_pod")(pod_id)
        say(f"pod {pod.id}: {pod.status}", {"id": pod.id, "status": pod.status}, as_json=as_json)


_action("start", "Start a stopped pod.")
_action("stop", "Stop a pod: its GPUs are given back, its volume is kept, and paid for.")
_action("restart", "Restart a running pod's container in place.")
_action("reset", "Restart a pod from its image (REST v1 only).")


@pods.command()
@pod_argument
@yes_option
@json_option
def terminate(pod_id: str, yes: bool, as_json: bool) -> None:
    """End a pod for good, with its disk and its volume."""
    management = ManagementClient()
    ask_first(f"Terminate pod {pod_id}, and lose its disk and volume?", yes)
    management.terminate_pod(pod_id)
    say(f"pod {pod_id} is terminated", {"id": pod_id, "terminated": True}, as_json=as_json)


@pods.command()
@pod_argument
@click.option("--source", type=click.Choice(["container", "system"]), help="What the container, or its host, writes.")
@click.option("--tail", default=100, show_default=True, metavar="N", help="So many lines from before.")
@click.option(
    "--follow",
    "follow_s",
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Ends when the log is quiet for this long; in any case after 20 times that, at least a minute.",
)
@json_option
def logs(pod_id: str, source: str | None, tail: int, follow_s: float, as_json: bool) -> None:
    """The lines of a pod's log (REST v2 only)."""
    timeout_s = max(60.0, follow_s * 20)
    lines = ManagementClient().pod_logs(pod_id, source=source, tail=tail, quiet=follow_s, timeout=timeout_s)
    if as_json:
        print_rows(list(lines), {}, as_json=True, none="")
        return
    for line in lines:
        echo(line.text)


@pods.command()
@pod_argument
@click.option("--timeout", default=600.0, show_default=True, type=click.FloatRange(0, min_open=True), metavar="SECONDS")
@json_option
def wait(pod_id: str, timeout: float, as_json: bool) -> None:
    """Wait until a pod is RUNNING."""
    pod = ManagementClient().wait_until_running(pod_id, timeout)
    say(f"pod {pod.id}: {pod.status}", {"id": pod.id, "status": pod.status}, as_json=as_json)
