"""Pods and endpoints as tasks: a process without an API key asks, and the worker's client acts on the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from celery_runpod._asking import ask
from celery_runpod.errors import (
    ConfigurationError,
    EndpointNotFound,
    InvalidInput,
    InvalidOption,
    NameTaken,
    NotOffered,
    PodNotFound,
    PodNotRunning,
    RequestRejected,
)
from tests.servers import ROOT, World
from tests.waiting import eventually

POD = {"image": "me/train:3", "gpu": "NVIDIA L4"}
PACE = ("--pod-provisioning", "1", "--pod-starting", "2", "--pod-terminated", "0")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world"), endpoints=("fast=synthetic:duration=0.3",), simulator=PACE) as world:
        world.stack.env.update(RUNPOD_REST_URL=f"{world.simulator_url}/v2", RUNPOD_MANAGEMENT="on")
        world.stack.worker(concurrency=1, cwd=ROOT)
        yield world


@pytest.fixture
def world(servers: World) -> Iterator[World]:
    servers.app()
    yield servers
    servers.no_faults()
    for pod in pods(servers):
        ask("runpod.pods.terminate", (pod["id"],))
    eventually(servers.open_jobs, [])


def pods(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask("runpod.pods.list", app=world.app())
    return found


def test_a_pods_life(world: World) -> None:
    pod = ask("runpod.pods.create", ({**POD, "name": "train", "env": {"TOKEN": "secret-of-a-user"}},))
    assert (pod["name"], pod["status"]) == ("train", "PROVISIONING")
    running = ask("runpod.pods.wait", (pod["id"],), {"timeout_s": 30}, timeout=60)
    assert running["status"] == "RUNNING"
    assert ask("runpod.pods.update", (pod["id"], {"name": "renamed"}))["name"] == "renamed"
    assert any(line["text"] for line in ask("runpod.pods.logs", (pod["id"],), {"tail": 10}))
    assert ask("runpod.pods.restart", (pod["id"],))["id"] == pod["id"]
    assert ask("runpod.pods.stop", (pod["id"],))["status"] == "EXITED"
    assert ask("runpod.pods.start", (pod["id"],))["status"] in ("STARTING", "PROVISIONING", "RUNNING")
    assert isinstance(ask("runpod.pods.billing", (), {"bucket": "day"}), list)
    assert ask("runpod.pods.terminate", (pod["id"],)) is None
    with pytest.raises(PodNotFound):
        ask("runpod.pods.get", (pod["id"],))
    found = "".join(str(world.redis.get(key)) for key in world.redis.scan_iter("celery-task-meta-*"))
    assert "secret-of-a-user" not in found


def test_a_wait_holds_no_worker_slot(world: World) -> None:
    pod = ask("runpod.pods.create", (POD,))
    waiting = world.app().send_task("runpod.pods.wait", (pod["id"],), {"timeout_s": 60}, queue="runpod.deliver")
    eventually(lambda: waiting.state, "RETRY")
    # The worker has one slot.
    assert world.endpoint("fast").delay(a=1).get(timeout=30) == {"a": 1}
    assert waiting.get(timeout=60)["status"] == "RUNNING"


def test_a_wait_ends_with_its_time_or_with_the_pod(world: World) -> None:
    pod = ask("runpod.pods.create", (POD,))
    with pytest.raises(PodNotRunning) as caught:
        ask("runpod.pods.wait", (pod["id"],), {"timeout_s": 0.5})
    assert caught.value.pod_id == pod["id"]
    ask("runpod.pods.stop", (pod["id"],))
    with pytest.raises(PodNotRunning, match="EXITED"):
        ask("runpod.pods.wait", (pod["id"],), {"timeout_s": 30})


def test_trouble_with_the_api_is_waited_out(world: World) -> None:
    pod = ask("runpod.pods.create", (POD,))
    world.fault(endpoint="*", operation="pods.get", kind="status", status=503, times=3)
    assert ask("runpod.pods.wait", (pod["id"],), {"timeout_s": 60}, timeout=60)["status"] == "RUNNING"


def test_a_pod_whose_create_went_unanswered_is_created_once(world: World) -> None:
    world.fault(endpoint="*", operation="pods.create", kind="drop_after", times=1)
    pod = ask("runpod.pods.create", ({**POD, "name": "lost-answer"},), timeout=60)
    assert [one["id"] for one in pods(world)] == [pod["id"]]


def test_a_message_that_comes_twice_creates_one_pod(world: World) -> None:
    options = {"queue": "runpod.deliver", "task_id": "made-by-one-message"}
    first = world.app().send_task("runpod.pods.create", (POD,), **options).get(timeout=30)
    world.app().backend.delete("celery-task-meta-made-by-one-message")
    again = world.app().send_task("runpod.pods.create", (POD,), **options).get(timeout=30)
    assert (first["id"], first["name"]) == (again["id"], "pod-made-by-one-message")
    assert len(pods(world)) == 1


@pytest.mark.parametrize(
    ("task", "args", "error", "words"),
    [
        ("runpod.pods.get", ("no-such-pod",), PodNotFound, "pod"),
        ("runpod.pods.wait", ("no-such-pod",), PodNotFound, "pod"),
        ("runpod.pods.stop", ("no-such-pod",), PodNotFound, "pod"),
        ("runpod.pods.get", ("../pods",), InvalidInput, "id"),
        ("runpod.pods.create", ({**POD, "cpu": "cpu3c"},), InvalidOption, "GPUs or CPUs"),
        ("runpod.pods.create", ({"image": "me/train:3", "gpu": "NVIDIA Abacus"},), RequestRejected, "Abacus"),
        ("runpod.pods.create", ({**POD, "gpus": 3},), InvalidOption, "gpus"),
        ("runpod.pods.create", (), InvalidInput, "spec"),
        ("runpod.pods.reset", ("no-such-pod",), NotOffered, "v1"),
        ("runpod.pods.wait", ("no-such-pod", -1), InvalidInput, "timeout_s"),
        ("runpod.endpoints.get", ("nobody",), EndpointNotFound, "nobody"),
        ("runpod.endpoints.update", ("fast", {"workers_min": 5, "workers_max": 1}), InvalidOption, "workers_min"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_bad_input_is_a_typed_error_and_changes_nothing(
    world: World, task: str, args: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ask(task, args)
    assert pods(world) == []


def test_a_name_that_is_taken(world: World) -> None:
    pod = ask("runpod.pods.create", ({**POD, "name": "train"},))
    with pytest.raises(NameTaken) as caught:
        ask("runpod.pods.create", ({**POD, "name": "train"},))
    assert caught.value.existing_id == pod["id"]
    assert len(pods(world)) == 1


def test_endpoints_gpus_and_bills(world: World) -> None:
    spec = {"name": "fresh", "image": "me/sdxl:3", "gpu_pools": ["ADA_24"], "workers_max": 2}
    made = ask("runpod.endpoints.create", (spec,))
    assert made["name"] == "fresh"
    warm = ask("runpod.endpoints.update", (made["id"], {"workers_min": 1, "workers_max": 3}))
    assert (warm["workers_min"], warm["workers_max"]) == (1, 3)
    assert made["id"] in [one["id"] for one in ask("runpod.endpoints.list")]
    assert isinstance(ask("runpod.endpoints.workers", (made["id"],)), list)
    ask("runpod.endpoints.delete", (made["id"],))
    with pytest.raises(EndpointNotFound):
        ask("runpod.endpoints.get", (made["id"],))
    gpus = ask("runpod.gpus", (), {"available_for": "POD"})
    assert "NVIDIA L4" in [gpu["id"] for gpu in gpus]
    assert isinstance(ask("runpod.endpoints.billing", (), {"last": 3}), list)


def test_without_the_switch_asking_fails_at_once(tmp_path: Any) -> None:
    with World(tmp_path) as world:
        world.stack.worker(env={"RUNPOD_REST_URL": f"{world.simulator_url}/v2"}, cwd=ROOT)
        world.app()
        for task, args in (("runpod.pods.create", (POD,)), ("runpod.gpus", ()), ("runpod.pods.wait", ("p1",))):
            with pytest.raises(ConfigurationError, match="RUNPOD_MANAGEMENT=on"):
                ask(task, args, timeout=60)
