"""The commands against real servers: what they print for people, for other programs and as JSON, and how they fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from celery_runpod.errors import JobFailed
from tests.commands import Answer, as_process, in_process
from tests.servers import API_KEY, World
from tests.waiting import eventually

PACE = ("--pod-provisioning", "0.2", "--pod-starting", "0.2", "--pod-terminated", "0")
ENDPOINTS = (
    "fast=synthetic:duration=0.3",
    "queued=synthetic:duration=60,workers=1",
    "failing=synthetic:duration=0.1,failures=1",
)

Say = Callable[..., Answer]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world"), endpoints=ENDPOINTS, simulator=PACE) as world:
        yield world.start(application=None)


@pytest.fixture
def say(world: World) -> Say:
    """Calls a command in this process; `key` gives it the API key and the management API."""
    return partial(command, world, in_process)


@pytest.fixture
def shell(world: World) -> Say:
    """The same, in a process of its own."""
    return partial(command, world, as_process)


def command(world: World, run: Say, *arguments: str, key: bool = False, said: str = "", **env: str) -> Answer:
    own = {"REDIS_URL": world.redis_url, **env}
    if key:
        own |= {"RUNPOD_API_KEY": API_KEY, "RUNPOD_REST_URL": f"{world.simulator_url}/v2"}
    return run(*arguments, env=own, said=said)


def told(answer: Answer) -> Any:
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def refused(answer: Answer) -> str:
    """The one sentence of a command that failed."""
    assert answer.returncode == 1, answer.stdout + answer.stderr
    (sentence,) = answer.stderr.strip().splitlines()
    return sentence


# As a process: once each. `run`, `doctor`, `demo` and `dev` are in test_demo and test_dev.


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("health", "fast"), 0, "completed\t"),
        (("pause", "held"), 0, "nothing is submitted to held"),
        (("resume", "held"), 0, "jobs are submitted again"),
        (("purge", "nobody", "--yes"), 1, "endpoint nobody"),
        (("watch", "no-such-job"), 1, "no job of this namespace"),
        (("show", "no-such-job"), 1, "no-such-job"),
        (("retry", "no-such-job"), 1, "no-such-job"),
        (("cancel", "no-such-job", "--json"), 0, "cancel_asked"),
        (("jobs", "--json"), 0, "["),
        (("pods", "list"), 0, "no pod"),
        (("endpoints", "get", "nobody"), 1, "nobody"),
        (("gpus", "--for", "pod"), 0, "NVIDIA L4\t24\t"),
        (("billing", "pods", "--json"), 0, "["),
        (("completion", "bash"), 0, "_CELERY_RUNPOD_COMPLETE"),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else "",
)
def test_a_command_as_a_process(shell: Say, arguments: tuple[str, ...], status: int, words: str) -> None:
    answer = shell(*arguments, key=True)
    assert answer.returncode == status, answer.stdout + answer.stderr
    assert words in (answer.stderr if status else answer.stdout)


# Jobs: without an API key


def test_health(say: Say) -> None:
    assert told(say("health", "fast", "--json"))["in_queue"] == 0
    assert "completed\t" in say("health", "fast").stdout
    assert "endpoint nobody" in refused(say("health", "nobody"))


def test_watch_a_job_to_its_end(world: World, say: Say) -> None:
    job = world.endpoint("fast").delay(a=1)
    answer = say("watch", job.id, "--json")
    assert told(answer)["output"] == {"a": 1}
    assert "task " in answer.stderr
    assert "no job of this namespace" in refused(say("watch", "no-such-job"))


def test_watch_a_job_whose_result_is_not_kept(world: World, say: Say) -> None:
    job = world.endpoint("fast").apply_async(({"a": 1},), ignore_result=True)
    answer = say("watch", job.id)
    assert (answer.returncode, answer.stdout) == (0, "")
    assert answer.stderr.splitlines()[-1] == "ended as COMPLETED; its result is not kept"


def test_a_failed_job_is_shown_as_kept_and_runs_again(world: World, say: Say) -> None:
    job = world.endpoint("failing").delay(a=1)
    with pytest.raises(JobFailed):
        job.get(timeout=60)
    eventually(lambda: told(say("show", job.id, "--json"))["kept"], True)
    assert f"retry {job.id}" in say("show", job.id).stdout
    again = told(say("retry", job.id, "--json"))
    assert (again["task_id"], again["retried_as"] != job.id) == (job.id, True)
    watched = say("watch", again["retried_as"])
    assert (watched.returncode, "JobFailed" in watched.stderr) == (1, True)
    assert again["retried_as"] in refused(say("retry", job.id))


def test_a_purge_asks_first(world: World, say: Say) -> None:
    endpoint = world.endpoint("queued")
    running = endpoint.delay(a=1)
    eventually(lambda: running.state, "IN_PROGRESS")
    waiting = endpoint.delay(a=2)
    eventually(lambda: waiting.state, "IN_QUEUE")
    asked = say("purge", "queued", said="n\n")
    assert asked.returncode == 1
    assert "queued (1 now)" in asked.stderr
    assert say("purge", "queued").returncode == 1, "without anybody to agree nothing is purged"
    assert waiting.state == "IN_QUEUE"
    assert told(say("purge", "queued", "--yes", "--json")) == {"endpoint": "queued", "removed": 1}
    eventually(lambda: waiting.state, "FAILURE")
    cancelled = say("cancel", running.id, "--json")
    assert told(cancelled) == {"cancel_asked": [running.id], "all": False}
    eventually(lambda: running.state, "REVOKED")


# Pods, endpoints, prices: with the key of the shell


def test_a_pod_from_the_shell(say: Say) -> None:
    create = ("pods", "create", "--image", "me/train:3", "--gpu", "NVIDIA L4", "--env", "TOKEN=secret-of-a-user")
    pod = told(say(*create, "--name", "shell", "--set", "disk_gb=30", "--wait", "60", "--json", key=True))
    assert (pod["status"], pod["disk_gb"]) == ("RUNNING", 30)
    assert "secret-of-a-user" not in json.dumps(pod)
    lines = [line.split("\t") for line in say("pods", "list", key=True).stdout.splitlines()]
    assert lines[0][:3] == ["id", "name", "status"]
    assert lines[1][:4] == [pod["id"], "shell", "RUNNING", "1 x NVIDIA L4"]
    assert say("pods", "logs", pod["id"], "--follow", "0.5", key=True).stdout.count("\n") >= 1
    assert told(say("pods", "update", pod["id"], "--name", "other", "--json", key=True))["name"] == "other"
    for action, status in (("restart", "STARTING"), ("stop", "EXITED"), ("start", "PROVISIONING")):
        found = told(say("pods", action, pod["id"], "--json", key=True))
        assert (found["id"], action, found["status"] in (status, "RUNNING", "STARTING")) == (pod["id"], action, True)
    assert told(say("pods", "wait", pod["id"], "--json", key=True))["status"] == "RUNNING"
    assert say("pods", "terminate", pod["id"], said="n\n", key=True).returncode == 1
    assert told(say("pods", "get", pod["id"], "--json", key=True))["id"] == pod["id"]
    assert told(say("pods", "terminate", pod["id"], "--yes", "--json", key=True))["terminated"] is True
    assert say("pods", "list", key=True).stdout == "no pod\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pods", "get", "no-such-pod"), "no-such-pod"),
        (("pods", "create", "--image", "i", "--gpu", "NVIDIA L4", "--cpu", "cpu3c"), "GPUs or CPUs"),
        (("pods", "create", "--image", "i", "--gpu", "NVIDIA Abacus"), "Abacus"),
        (("pods", "create", "--image", "i", "--gpu", "NVIDIA L4", "--set", "colour=red"), "colour"),
        (("pods", "reset", "no-such-pod"), "v1"),
        (("pods", "update", "no-such-pod"), "nothing"),
        (("endpoints", "get", "nobody"), "nobody"),
        (("endpoints", "scale", "fast", "--min", "3", "--max", "1"), "workers_min"),
        (("endpoints", "scale", "fast"), "nothing"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_sentence(say: Say, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(say(*arguments, key=True))
    assert told(say("pods", "list", "--json", key=True)) == []


def test_without_a_key_and_with_a_wrong_one(world: World, say: Say) -> None:
    url = f"{world.simulator_url}/v2"
    assert "RUNPOD_API_KEY" in refused(say("pods", "list", RUNPOD_REST_URL=url))
    sentence = refused(say("pods", "list", RUNPOD_REST_URL=url, RUNPOD_API_KEY="wrong-key-of-mine"))
    assert "401" in sentence and "wrong-key-of-mine" not in sentence


def test_an_endpoint_is_warmed_up_by_any_of_its_names(say: Say, tmp_path: Path) -> None:
    create = ("endpoints", "create", "--name", "fresh", "--image", "me/sdxl:3", "--gpu-pool", "ADA_24", "--max", "2")
    made = told(say(*create, "--json", key=True))
    try:
        config = tmp_path / "endpoints.toml"
        config.write_text(f'[endpoints.of-profile]\nid = "{made["id"]}"\n')
        env = {"RUNPOD_CONFIG": str(config), "RUNPOD_ENDPOINT_OF_VARIABLE": made["id"]}
        for least, name in enumerate(("fresh", made["id"], "of-profile", "of-variable")):
            scaled = say("endpoints", "scale", name, "--min", str(least), "--max", "5", "--json", key=True, **env)
            assert told(scaled) == {"id": made["id"], "workers_min": least, "workers_max": 5}
        assert made["id"] in say("endpoints", "list", key=True).stdout
        assert isinstance(told(say("endpoints", "workers", "fresh", "--json", key=True)), list)
        changed = told(say("endpoints", "update", "fresh", "--idle", "30", "--json", key=True))
        assert changed["idle_timeout_s"] == 30
    finally:
        assert told(say("endpoints", "delete", "fresh", "--yes", "--json", key=True))["deleted"] is True


def test_doctor_reaches_the_management_api(shell: Say) -> None:
    found = told(shell("doctor", "--json", key=True, RUNPOD_BASE_URL="http://127.0.0.1:1/v2"))
    (finding,) = [one for one in found["findings"] if one["check"] == "management API"]
    assert (finding["level"], "0 pods" in finding["found"]) == ("ok", True)


def test_prices_and_bills(say: Say) -> None:
    gpus = say("gpus", "--for", "pod", key=True).stdout.splitlines()
    assert gpus[0].split("\t")[:2] == ["id", "GB"]
    assert any(line.startswith("NVIDIA L4\t24\t") for line in gpus)
    assert isinstance(told(say("billing", "pods", "--bucket", "hour", "--json", key=True)), list)
    assert isinstance(told(say("billing", "endpoints", "--last", "3", "--json", key=True)), list)


def test_a_worker_names_the_module_that_it_cannot_import(shell: Say) -> None:
    sentence = refused(shell("worker", key=True, RUNPOD_IMPORTS="nosuch_mod"))
    assert sentence == "celery-runpod: no module 'nosuch_mod' can be imported: RUNPOD_IMPORTS names it"


# Shells


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_completes(say: Say, shell: Say, name: str) -> None:
    script = say("completion", name).stdout
    assert "_CELERY_RUNPOD_COMPLETE" in script
    words = {"COMP_WORDS": "celery-runpod pods te", "COMP_CWORD": "2" if name != "fish" else "te"}
    answer = shell(_CELERY_RUNPOD_COMPLETE=f"{name}_complete", **words)
    assert "terminate" in answer.stdout
