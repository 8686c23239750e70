"""Pods as tasks: a create that comes twice, and a wait that leaves its slot between two looks."""

from __future__ import annotations

from typing import Any

import pytest
from celery.exceptions import Retry

from celery_runpod.api import Pod
from celery_runpod.errors import (
    CreateUnconfirmed,
    EndpointNotFound,
    InvalidInput,
    NameTaken,
    PodNotFound,
    PodNotRunning,
    RateLimited,
    Unavailable,
)
from tests.builders import Bench

POD = {"image": "me/train:3", "gpu": "NVIDIA L4"}


class Management:
    """Pods in memory; `says` are answers to the next looks."""

    def __init__(self, *says: Any) -> None:
        self.pods: list[Pod] = []
        self.says = list(says)

    def create_pod(self, spec: Any) -> Pod:
        if taken := [pod for pod in self.pods if pod.name == spec["name"]]:
            raise NameTaken("pod", spec["name"], taken[0].id)
        self.pods.append(Pod(f"p{len(self.pods)}", spec["name"], "PROVISIONING", env={"TOKEN": "secret-of-a-user"}))
        return self.pods[-1]

    def list_pods(self) -> list[Pod]:
        return self.pods

    def get_pod(self, pod_id: str) -> Pod:
        if pod_id in [pod.id for pod in self.pods]:
            return next(pod for pod in self.pods if pod.id == pod_id)
        said = self.says.pop(0) if self.says else "PROVISIONING"
        if isinstance(said, Exception):
            raise said
        return Pod(pod_id, "train", said)


def bench_with(*says: Any) -> Bench:
    bench = Bench(RUNPOD_MANAGEMENT="on")
    bench.management = Management(*says)
    return bench


def run(bench: Bench, name: str, *args: Any, redelivered: bool = False, **kwargs: Any) -> Any:
    task = bench.app.tasks[name]
    task.push_request(
        id="m1", called_directly=False, delivery_info={"redelivered": redelivered, "routing_key": "runpod.deliver"}
    )
    try:
        return task.run(*args, **kwargs)
    finally:
        task.pop_request()


def again(caught: pytest.ExceptionInfo[Retry]) -> tuple[float, tuple[Any, ...]]:
    """The countdown, and the arguments, of the message that a wait left behind."""
    assert caught.value.sig is not None
    return caught.value.sig.options["countdown"], tuple(caught.value.sig.args)


def test_a_create_answers_without_secrets() -> None:
    pod = run(bench_with(), "runpod.pods.create", POD)
    assert (pod["name"], "env" in pod) == ("pod-m1", False)


@pytest.mark.parametrize("redelivered", [False, True])
def test_a_message_that_comes_twice_creates_once(redelivered: bool) -> None:
    bench = bench_with()
    first = run(bench, "runpod.pods.create", POD)
    assert run(bench, "runpod.pods.create", POD, redelivered=redelivered) == first
    assert len(bench.management.pods) == 1


def test_after_a_lost_worker_nothing_is_created_again() -> None:
    bench = bench_with()
    for spec in (POD, {**POD, "name": "train"}):
        with pytest.raises(CreateUnconfirmed):
            run(bench, "runpod.pods.create", spec, redelivered=True)
    assert bench.management.pods == []
    bench.management.create_pod({"name": "train"})
    with pytest.raises(NameTaken):
        run(bench, "runpod.pods.create", {**POD, "name": "train"}, redelivered=True)


@pytest.mark.parametrize("args", [(), ("text",), (POD, "more")], ids=repr)
def test_arguments_that_do_not_fit_are_a_typed_error(args: tuple[Any, ...]) -> None:
    bench = bench_with()
    bench.management.create_pod = lambda spec: {**spec}
    with pytest.raises(InvalidInput, match=r"runpod\.pods\.create"):
        run(bench, "runpod.pods.create", *args)


def test_a_wait_looks_less_and_less_often_and_ends_when_the_pod_runs() -> None:
    bench = bench_with("PROVISIONING", "STARTING", "STARTING", "RUNNING")
    args: tuple[Any, ...] = ("p9", 600.0)
    pauses = []
    for _ in range(3):
        with pytest.raises(Retry) as caught:
            run(bench, "runpod.pods.wait", *args)
        pause_s, args = again(caught)
        pauses.append(pause_s)
        bench.now += pause_s
    assert pauses == [1.0, 1.5, 2.25]
    assert run(bench, "runpod.pods.wait", *args)["status"] == "RUNNING"


def test_no_word_from_the_api_is_no_word_on_the_pod() -> None:
    bench = bench_with(Unavailable("reset"), RateLimited("slow down", retry_after_s=20.0))
    with pytest.raises(Retry) as caught:
        run(bench, "runpod.pods.wait", "p9", 600.0)
    pause_s, args = again(caught)
    assert pause_s == 1.0
    with pytest.raises(Retry) as caught:
        run(bench, "runpod.pods.wait", *args)
    assert again(caught)[0] == 20.0


@pytest.mark.parametrize(("status", "waited_s"), [("ERROR", 0), ("TERMINATED", 0), ("EXITED", 10)])
def test_a_pod_that_has_ended_is_not_waited_for(status: str, waited_s: float) -> None:
    bench = bench_with(status)
    with pytest.raises(PodNotRunning, match=status):
        run(bench, "runpod.pods.wait", "p9", 600.0, None, bench.now - waited_s, 3)
    with pytest.raises(PodNotFound):
        run(bench_with(PodNotFound("no such pod")), "runpod.pods.wait", "p9", 600.0)


def test_a_pod_that_was_seen_starting_and_has_exited_is_not_waited_for() -> None:
    bench = bench_with("STARTING", Unavailable("reset"), "EXITED")
    args: tuple[Any, ...] = ("p9", 600.0)
    for _ in range(2):
        with pytest.raises(Retry) as caught:
            run(bench, "runpod.pods.wait", *args)
        _, args = again(caught)
    with pytest.raises(PodNotRunning, match="EXITED"):
        run(bench, "runpod.pods.wait", *args)


def test_a_pod_that_was_only_just_told_to_start_may_be_exited_still() -> None:
    bench, args = bench_with("EXITED", "STARTING", "RUNNING"), ("p9", 600.0)
    for _ in range(2):
        with pytest.raises(Retry) as caught:
            run(bench, "runpod.pods.wait", *args)
        pause_s, args = again(caught)
        bench.now += pause_s
    assert run(bench, "runpod.pods.wait", *args)["status"] == "RUNNING"


def test_a_wait_has_a_last_look_when_its_time_is_over() -> None:
    bench = bench_with()
    with pytest.raises(Retry) as caught:
        run(bench, "runpod.pods.wait", "p9", 0.5)
    pause_s, args = again(caught)
    assert pause_s == 0.5
    bench.now += pause_s
    with pytest.raises(PodNotRunning, match=r"after 0\.5 s"):
        run(bench, "runpod.pods.wait", *args)


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("runpod.pods.terminate", PodNotFound("no such pod")),
        ("runpod.endpoints.delete", EndpointNotFound("no such endpoint")),
    ],
)
def test_what_an_earlier_delivery_has_ended_is_ended(name: str, gone: Exception) -> None:
    bench = bench_with()

    def not_there(target: str) -> None:
        raise gone

    bench.management.terminate_pod = bench.management.delete_endpoint = not_there
    assert run(bench, name, "p9", redelivered=True) is None
    with pytest.raises(type(gone)):
        run(bench, name, "p9")
