"""A pod's life, with the time given."""

from __future__ import annotations

import pytest

from celery_runpod._simulator.management.simulated_pods import ACTIONS, Pace, Pod, Pods, PodSpec, Status

PACE = Pace(provisioning_s=10.0, starting_s=20.0, terminated_s=5.0)


def spec(**fields: object) -> PodSpec:
    given = {"name": "train", "image": "me/train:3", "price_per_h": 2.0, "data_center": "US-KS-2", **fields}
    return PodSpec(gpu=("NVIDIA L4", 1), **given)  # type: ignore[arg-type]


def pod(now: float = 100.0, **fields: object) -> Pod:
    return Pod("p", 0, spec(**fields), now, PACE)


def texts(one: Pod, now: float) -> list[str]:
    return [line.text for line in one.log(now)]


def test_time_alone_brings_a_new_pod_up() -> None:
    one = pod(100.0)
    seen = [one.status(now) for now in (100.0, 109.9, 110.0, 129.9, 130.0, 1e9)]
    assert seen == ["PROVISIONING", "PROVISIONING", "STARTING", "STARTING", "RUNNING", "RUNNING"]
    assert (one.started_at(129.9), one.started_at(130.0)) == (None, 130.0)


def test_stop_and_start_again() -> None:
    one = pod(100.0)
    assert one.act("stop", 200.0)
    assert (one.status(200.0), one.status(1e6)) == (Status.EXITED, Status.EXITED)
    assert one.act("start", 300.0)
    assert [one.status(now) for now in (300.0, 319.9, 320.0)] == ["STARTING", "STARTING", "RUNNING"]
    assert [(run.start, run.end) for run in one.runs] == [(100.0, 200.0), (300.0, float("inf"))]


def test_a_pod_stopped_before_it_was_up_never_comes_up() -> None:
    one = pod(100.0)
    assert one.act("stop", 105.0)
    assert (one.status(1000.0), one.started_at(1000.0)) == (Status.EXITED, None)
    assert texts(one, 1000.0) == ["create pod p", "stop container"]


def test_restart_starts_the_container_alone() -> None:
    one = pod(100.0)
    assert one.act("restart", 200.0)
    assert (one.status(219.9), one.status(220.0)) == (Status.STARTING, Status.RUNNING)
    assert len(one.runs) == 1


def test_terminated_then_gone() -> None:
    pods = Pods(PACE)
    one = pods.create("p", spec(), 100.0)
    assert one.act("terminate", 200.0)
    assert (pods.find("p", 204.9), one.status(204.9)) == (one, Status.TERMINATED)
    assert pods.find("p", 205.0) is None
    assert pods.listing(201.0) == []
    assert list(pods.all) == ["p"], "kept for the bill"


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("action", ["start", "stop", "restart", "terminate"])
def test_every_action_in_every_status(status: Status, action: str) -> None:
    one = pod(100.0)
    now = {Status.PROVISIONING: 101.0, Status.STARTING: 111.0}.get(status, 200.0)
    if status in (Status.EXITED, Status.TERMINATED):
        one.act("stop" if status is Status.EXITED else "terminate", now)
    assert one.status(now) is status
    assert one.act(action, now) is (action in ACTIONS[status])


def test_a_locked_pod_is_neither_stopped_nor_restarted() -> None:
    one = pod(100.0, locked=True)
    assert one.actions(200.0) == ["terminate"]
    assert not one.act("stop", 200.0) and not one.act("restart", 200.0)
    one.update({"locked": False}, 200.0)
    assert one.act("stop", 200.0)


def test_it_costs_while_it_is_not_stopped() -> None:
    one = pod(100.0)
    assert (one.cost_per_h(100.0), one.cost_per_h(200.0)) == (2.0, 2.0)
    one.act("stop", 200.0)
    assert one.cost_per_h(201.0) == 0.0


def test_a_new_image_restarts_a_running_pod_and_a_new_name_does_not() -> None:
    one = pod(100.0)
    one.update({"name": "b"}, 200.0)
    assert (one.status(200.0), one.spec.name) == (Status.RUNNING, "b")
    one.update({"image": "me/train:4"}, 201.0)
    assert (one.status(201.0), one.status(221.0)) == (Status.STARTING, Status.RUNNING)
    assert texts(one, 221.0)[-1] == "me/train:4 is up"


def test_the_log_grows_with_time() -> None:
    one = pod(100.0)
    assert texts(one, 100.0) == ["create pod p"]
    assert texts(one, 110.0) == ["create pod p", "create container me/train:3"]
    assert [line.source for line in one.log(130.0)] == ["system", "system", "system", "container"]


def test_the_newest_pod_comes_first() -> None:
    pods = Pods(PACE)
    for number in range(3):
        pods.create(f"p{number}", spec(), 100.0 + number)
    assert [one.id for one in pods.listing(200.0)] == ["p2", "p1", "p0"]
