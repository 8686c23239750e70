"""What a careless project does: loops, unit tests, slips of the hand. No job of a GPU is begun that nobody asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import group
from celery.exceptions import TaskRevokedError

from celery_runpod import cancel
from celery_runpod.errors import DeadlineExceeded, RunPodError
from tests.hostile.application import RETRIES, mad
from tests.hostile.conftest import ENDPOINTS, servers_of, start_workers
from tests.hostile.harm import WAIT_S, command, end_of, no_harm, stays, typed
from tests.servers import ROOT, World
from tests.waiting import eventually

PROFILES = """
[endpoints.two_at_once]
id = "narrow"
max_in_flight = 2

[endpoints.two_as_well]
id = "narrow"
max_in_flight = 2

[endpoints.five_at_once]
id = "slow"
max_in_flight = 5
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("money")
    (folder / "profiles.toml").write_text(PROFILES)
    env = {
        "RUNPOD_CONFIG": str(folder / "profiles.toml"),
        "RUNPOD_API_KEY_OTHER": "another-key",
        "RUNPOD_API_KEY_FILE": "",
        "SECRET_PATH": "secret",
    }
    endpoints = (*ENDPOINTS, "narrow=synthetic:duration=1")

    def prepare(world: World) -> None:
        world.stack.env["RUNPOD_REST_URL"] = f"{world.simulator_url}/v2"
        start_workers(world)

    with servers_of(folder, endpoints=endpoints, env=env, prepare=prepare) as world:
        yield world


# Loops and slips


def test_an_errback_that_runs_the_job_again_is_stopped(world: World) -> None:
    mark = uuid.uuid4().hex
    with no_harm(world, submits=4):
        result = world.endpoint("failing").apply_async(({"mark": mark},), link_error=[mad.s()])
        typed(world, result.id, RunPodError)
        eventually(lambda: world.redis.lrange(RETRIES, 0, -1)[-1:], ["RetryRefused"], within_s=90)
        assert world.redis.lrange(RETRIES, 0, -1) == ["retried"] * 3 + ["RetryRefused"]
        assert len(world.submits(mark)) == 4
        for key in (RETRIES, *world.redis.scan_iter("*:failed:*")):
            world.redis.delete(key)


def test_a_retry_over_the_bound_is_possible_when_it_is_forced(world: World) -> None:
    mark = uuid.uuid4().hex
    last = world.endpoint("failing").delay(mark=mark).id
    typed(world, last, RunPodError)
    for _ in range(3):
        last = world.endpoint("failing").retry(last).id
        typed(world, last, RunPodError)
    refused = command(world, "retry", last)
    assert refused.returncode == 1 and "RUNPOD_MOST_RETRIES_BY_HAND" in refused.stderr, refused.stderr
    assert len(world.submits(mark)) == 4
    forced = command(world, "retry", "--force", last)
    assert forced.returncode == 0, forced.stderr
    eventually(lambda: len(world.submits(mark)), 5, within_s=WAIT_S)


def test_nothing_is_published_from_unit_tests(world: World) -> None:
    with no_harm(world):
        env = {**world.stack.env, "RUNPOD_API_KEY": ""}
        command_line = [sys.executable, "-m", "tests.hostile.eager"]
        ran = subprocess.run(command_line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
        raised = json.loads(ran.stdout)
        assert {name: what[0] for name, what in raised.items()} == dict.fromkeys(raised, "EagerMode"), raised
        stays(lambda: world.redis.llen("runpod") + world.redis.zcard("{runpod}:outbox"), 0, for_s=1)


def test_arguments_that_are_no_list_are_a_type_error(world: World) -> None:
    with no_harm(world):
        # Not of a signature: Celery's own `Signature.apply_async` makes a tuple of what it is given.
        for args in ({"a": 1}, "text", {1, 2}, b"x", 3):
            with pytest.raises(TypeError):
                world.endpoint("fast").apply_async(args)
            with pytest.raises(TypeError):
                world.endpoint("fast").signature(args)


def test_links_that_are_no_signatures_are_refused_at_the_call(world: World) -> None:
    with no_harm(world):
        for name in ("link", "link_error"):
            for link in ("x", 3, ["x"], {"a": 1}, object()):
                with pytest.raises((TypeError, RunPodError)):
                    world.endpoint("fast").apply_async(({},), **{name: link})


# Ends


def test_a_job_that_ends_just_before_its_deadline_is_a_success(world: World) -> None:
    with no_harm(world, submits=1):
        mark = uuid.uuid4().hex
        # It works for 4 s. The first look after the submit comes long after the deadline, so only the last look at the
        # deadline finds its end. The rest of the 30 s is for a busy machine to submit it.
        result = world.endpoint("five", deadline=30, backoff={"first": 600, "cap": 600}).delay(mark=mark)
        assert end_of(world, result.id) == {"mark": mark}


def test_a_job_that_does_not_end_before_its_deadline_is_cancelled(world: World) -> None:
    with no_harm(world, submits=1):
        mark = uuid.uuid4().hex
        result = world.endpoint("slow", deadline=3).delay(mark=mark)
        typed(world, result.id, DeadlineExceeded)
        eventually(lambda: world.statuses(mark), ["CANCELLED"], within_s=WAIT_S)


# How many at once


def most_at_once(jobs: list[dict[str, Any]]) -> int:
    """How many of these jobs were at RunPod at the same time."""
    steps = [(job["submitted_at"], 1) for job in jobs] + [(job["ended_at"] or float("inf"), -1) for job in jobs]
    now = most = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def test_a_limit_holds_whatever_name_the_endpoint_is_called_by(world: World) -> None:
    marks = [uuid.uuid4().hex for _ in range(9)]
    with no_harm(world, submits=9):
        results = [
            world.endpoint(("two_at_once", "narrow", "two_as_well")[number % 3]).delay(mark=mark)
            for number, mark in enumerate(marks)
        ]
        assert [end_of(world, result.id) for result in results] == [{"mark": mark} for mark in marks]
        assert most_at_once([job for mark in marks for job in world.submits(mark)]) <= 2


def test_a_cancelled_group_submits_nothing_more(world: World) -> None:
    marks = [uuid.uuid4().hex for _ in range(60)]
    with no_harm(world, submits=5):
        result = group(world.endpoint("five_at_once").si({"mark": mark}) for mark in marks).apply_async()
        eventually(lambda: len([job for job in world.jobs("slow") if job["input"]["mark"] in marks]), 5, within_s=60)
        cancel(result.id, app=world.app())
        eventually(lambda: {one.state for one in result}, {"REVOKED"}, within_s=WAIT_S)
        eventually(
            lambda: [job["status"] for mark in marks for job in world.submits(mark)],
            ["CANCELLED"] * 5,
            within_s=WAIT_S,
        )


def test_a_call_that_expires_is_not_submitted_also_with_an_idempotency_key(world: World) -> None:
    mark, other = uuid.uuid4().hex, uuid.uuid4().hex
    with no_harm(world, submits=1):
        fault = world.fault(operation="run", endpoint="fast", kind="status", status=429, headers={"Retry-After": "2"})
        without_expiry = world.endpoint("fast").delay(mark=other)
        eventually(lambda: world.happened(fault) > 0, True, within_s=WAIT_S)
        keyed = world.endpoint("fast", idempotency_key=mark)
        results = [keyed.apply_async(({"mark": mark},), expires=timedelta(seconds=3).total_seconds()) for _ in range(3)]
        for result in results:
            with pytest.raises(TaskRevokedError):
                result.get(timeout=WAIT_S)
        world.no_faults()
        # What waits goes again, and none of the expired calls is left to go.
        assert end_of(world, without_expiry.id) == {"mark": other}
        eventually(world.open_jobs, [], within_s=WAIT_S)
        assert world.submits(mark) == []


# Rights


def test_names_of_keys_that_read_other_variables_are_refused(world: World) -> None:
    with no_harm(world):
        for name in ("file", "FILE", "other_file", "base_url", "../x", "x" * 300):
            kwargs = {"endpoint": "fast", "options": {"api_key_name": name}}
            result = world.app().send_task("runpod.run", args=[{}], kwargs=kwargs, queue="runpod")
            typed(world, result.id, RunPodError, what=name)


def test_an_endpoints_name_reads_no_other_variable(world: World) -> None:
    with no_harm(world):
        for name in ("base_url", "BASE_URL", "base-url"):
            result = world.app().send_task("runpod.run", args=[{}], kwargs={"endpoint": name}, queue="runpod")
            typed(world, result.id, RunPodError)


MANAGED: tuple[tuple[str, list[Any], dict[str, Any]], ...] = (
    ("runpod.pods.create", [], {"name": "miner", "image": "evil/miner", "gpu_type": "NVIDIA A40"}),
    ("runpod.pods.terminate", ["anything"], {}),
    ("runpod.endpoints.delete", ["fast"], {}),
    ("runpod.endpoints.create", [], {"name": "evil"}),
    ("runpod.gpus", [], {}),
    ("runpod.pods.billing", [], {}),
)


def test_nobody_who_reaches_the_broker_manages_the_account(world: World) -> None:
    with no_harm(world):
        before = world.requests()
        for task, args, kwargs in MANAGED:
            result = world.app().send_task(task, args=args, kwargs=kwargs, queue="runpod.deliver")
            assert "RUNPOD_MANAGEMENT" in str(typed(world, result.id, Exception, what=task)), task
        managed = {name: found for name, found in world.requests().items() if "." in name or name.startswith("catalog")}
        assert managed == {name: found for name, found in before.items() if name in managed}


def test_a_caller_is_told_at_once_that_management_is_off(world: World) -> None:
    from celery_runpod._asking import ask

    with no_harm(world):
        started = time.monotonic()
        with pytest.raises(RunPodError, match="RUNPOD_MANAGEMENT"):
            ask("runpod.pods.list", timeout=60, app=world.app())
        assert time.monotonic() - started < 50, "it waited for its time to be over"
