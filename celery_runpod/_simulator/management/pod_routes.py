"""The routes of pods: nested bodies (docs.runpod.io/api-reference-v2/pods).

Not here: a pod's life (``simulated_pods.py``), how a pod is shown (``representations.py``).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from celery_runpod._simulator.management import catalog
from celery_runpod._simulator.management.body_shapes import (
    CUDA,
    CUDAS,
    FLAG,
    NAME,
    TEXT,
    TEXT_MAP,
    TEXTS,
    Shape,
    listed,
    objects,
    one_of,
    or_null,
    whole,
)
from celery_runpod._simulator.management.catalog import NotPlaced
from celery_runpod._simulator.management.representations import shown_pod
from celery_runpod._simulator.management.route_table import (
    Account,
    Call,
    Follow,
    Problem,
    Reply,
    Route,
    flag,
    new_id,
)
from celery_runpod._simulator.management.simulated_pods import Line, Pod, PodSpec

CONTAINER: dict[str, Shape] = {
    "args": TEXT,
    "disk": whole(1),
    "env": TEXT_MAP,
    "image": TEXT,
    "ports": TEXTS,
    "registry": or_null(TEXT),
}
MOUNTS = objects(
    {
        "persistent": objects({"size": whole(10), "path": TEXT}, "size", "path"),
        "network": listed(objects({"volumeId": TEXT, "path": TEXT}, "volumeId", "path"), most=1),
    }
)
CPU = objects({"id": NAME, "vcpuCount": whole(2)}, "id", "vcpuCount")
GPU = objects({"id": TEXT, "count": whole(1), "allowedCudaVersions": CUDAS, "minCudaVersion": CUDA}, "id")
CREATE = objects(
    {
        **CONTAINER,
        "name": NAME,
        "cloud": one_of("SECURE", "COMMUNITY"),
        "cpu": CPU,
        "dataCenterIds": TEXTS,
        "globalNetworking": FLAG,
        "gpu": GPU,
        "mounts": MOUNTS,
        "startJupyter": FLAG,
        "startSsh": FLAG,
        "templateId": NAME,
    },
    "name",
)
UPDATE = objects(
    {**CONTAINER, "globalNetworking": FLAG, "locked": FLAG, "mounts": MOUNTS, "name": NAME, "templateId": TEXT}
)
ACTION = objects({"action": one_of("start", "stop", "restart", "terminate")}, "action")
SOURCES = ("container", "system")
MOST_LINES = 5000


def image_of(template: str | None) -> str:
    """The image of a template that only RunPod knows."""
    return f"template/{template}"


class PodRoutes:
    def __init__(self, account: Account) -> None:
        self.account = account

    def routes(self) -> list[Route]:
        return [
            Route("GET", "pods", "pods.list", self.listing),
            Route("POST", "pods", "pods.create", self.create, CREATE),
            Route("GET", "pods/*", "pods.get", self.get),
            Route("PATCH", "pods/*", "pods.update", self.update, UPDATE),
            Route("DELETE", "pods/*", "pods.delete", self.delete),
            Route("POST", "pods/*/action", "pods.action", self.action, ACTION),
            Route("GET", "pods/*/logs", "pods.logs", self.logs),
        ]

    def listing(self, call: Call) -> Reply:
        flag(call.query, "includeClusterPods")
        return Reply(200, {"pods": [shown_pod(pod, call.now) for pod in self.account.pods.listing(call.now)]})

    def create(self, call: Call) -> Reply:
        pod = self.account.pods.create(new_id(), _spec(call.body), call.now)
        return Reply(201, shown_pod(pod, call.now))

    def get(self, call: Call) -> Reply:
        return Reply(200, shown_pod(self.account.pod(call), call.now))

    def update(self, call: Call) -> Reply:
        pod = self.account.pod(call)
        _live(pod)
        pod.update(_changes(pod, call.body), call.now)
        return Reply(200, shown_pod(pod, call.now))

    def delete(self, call: Call) -> Reply:
        pod = self.account.pod(call)
        _live(pod)
        pod.act("terminate", call.now)
        return Reply(204)

    def action(self, call: Call) -> Reply:
        pod = self.account.pod(call)
        action = call.body["action"]
        if not pod.act(action, call.now):
            allowed = ", ".join(pod.actions(call.now)) or "none"
            status = pod.status(call.now)
            raise Problem(409, f"action {action} is not valid for a pod that is {status}; valid: {allowed}")
        return Reply(204) if action == "terminate" else Reply(200, shown_pod(pod, call.now))

    def logs(self, call: Call) -> Reply:
        pod = self.account.pod(call)
        source = call.query.get("source")
        if source is not None and source not in SOURCES:
            raise Problem(422, f"source: value must be one of {', '.join(SOURCES)}")
        sources = frozenset(SOURCES if source is None else (source,))
        lines = pod.log(call.now)
        since = call.last_event_id or call.query.get("since")
        if since is not None:
            return Reply(follow=Follow(pod, sources, _passed_over(lines, since)))
        tail = call.query.get("tail", "100")
        if not re.fullmatch(r"\d{1,4}", tail) or int(tail) > MOST_LINES:
            raise Problem(422, f"tail: a whole number from 0 to {MOST_LINES}")
        wanted = [number for number, line in enumerate(lines) if line.source in sources][-int(tail) or len(lines) :]
        return Reply(follow=Follow(pod, sources, wanted[0] if wanted else len(lines)))


def _live(pod: Pod) -> None:
    if pod.terminated_at is not None:
        raise Problem(404, "pod not found")


def _spec(body: dict[str, Any]) -> PodSpec:
    """What a body asks for; `Problem` 400 for what breaks a rule or cannot be had, 422 without an image."""
    if "image" not in body and "templateId" not in body:
        raise Problem(422, "Request validation failed.", ["$: missing property 'image'"])
    if ("gpu" in body) == ("cpu" in body):
        raise Problem(400, "exactly one of gpu or cpu must be set")
    mounts = body.get("mounts", {})
    _check_mounts(mounts)
    if "cpu" in body and "persistent" in mounts:
        raise Problem(400, "mounts.persistent is not allowed on CPU pods")
    cloud = body.get("cloud", "SECURE")
    gpu = (body["gpu"]["id"], body["gpu"].get("count", 1)) if "gpu" in body else None
    cpu = (body["cpu"]["id"], body["cpu"]["vcpuCount"]) if "cpu" in body else None
    if cpu is not None and cloud != "SECURE":
        raise Problem(400, "CPU pods are in the SECURE cloud alone")
    if gpu is not None:
        _check_cuda(body["gpu"])
    try:
        price = catalog.gpu_price(*gpu, cloud) if gpu is not None else catalog.cpu_price(*(cpu or ("", 0)))
        center = catalog.data_center(body.get("dataCenterIds", []))
    except NotPlaced as error:
        raise Problem(400, str(error)) from None
    template = body.get("templateId")
    return PodSpec(
        name=body["name"],
        image=body.get("image") or image_of(template),
        price_per_h=price,
        data_center=center,
        gpu=gpu,
        cpu=cpu,
        args=body.get("args", ""),
        disk=body.get("disk", 50 if gpu else 20),
        ports=body.get("ports", []),
        env=body.get("env", {}),
        registry=body.get("registry"),
        mounts=mounts,
        cloud=cloud,
        template=template,
        global_networking=body.get("globalNetworking", False),
    )


def _changes(pod: Pod, body: dict[str, Any]) -> dict[str, Any]:
    """The fields of a PATCH; a template is taken by name, its settings are RunPod's alone."""
    names = {"globalNetworking": "global_networking", "templateId": "template"}
    found = {names.get(name, name): value for name, value in body.items() if name != "mounts"}
    mounts = body.get("mounts")
    if mounts:
        _check_mounts(mounts)
        if mounts.get("network") == []:
            raise Problem(400, "mounts cannot be cleared")
        if set(mounts) != set(pod.spec.mounts):
            raise Problem(400, "the kind of mount is fixed when a pod is created")
        if "network" in mounts and mounts["network"][0]["volumeId"] != pod.spec.mounts["network"][0]["volumeId"]:
            raise Problem(400, "the volumeId of a network mount cannot be changed")
        found["mounts"] = mounts
    return found


def _check_mounts(mounts: dict[str, Any]) -> None:
    if "persistent" in mounts and "network" in mounts:
        raise Problem(400, "mounts.persistent and mounts.network are mutually exclusive")


def _check_cuda(gpu: dict[str, Any]) -> None:
    """Raises `Problem` 400 where no machine has the CUDA version."""
    exact, least = gpu.get("allowedCudaVersions", []), gpu.get("minCudaVersion")
    if exact and least:
        raise Problem(400, "allowedCudaVersions and minCudaVersion are mutually exclusive")
    there = [tuple(map(int, version.split("."))) for version in catalog.CUDA_VERSIONS]
    wanted = [tuple(map(int, version.split("."))) for version in exact]
    if (exact and not set(there) & set(wanted)) or (least and max(there) < tuple(map(int, least.split(".")))):
        raise Problem(400, "no machine with this CUDA version has capacity")


def _passed_over(lines: list[Line], since: str) -> int:
    """How many lines come before a cursor: a time, or the id of an event, which ends in the line's number."""
    text, slash, number = since.partition("/")
    try:
        after = datetime.fromisoformat(text).timestamp()
        if slash and number.isdecimal():
            return int(number)
    except (ValueError, OverflowError):
        raise Problem(422, "since: not a time in RFC 3339") from None
    return next((index for index, line in enumerate(lines) if line.at >= after), len(lines))
