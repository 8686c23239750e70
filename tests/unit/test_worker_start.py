"""What a worker needs before it starts: an API key, and a node name of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_runpod._cli.celery_commands import node_name
from celery_runpod.errors import ConfigurationError
from config.celery_config import celery_config
from config.pools import pool_of, refuse_pool
from config.settings import load_settings


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("RUNPOD_API_KEY"):
            monkeypatch.delenv(name)


def test_without_any_key_a_worker_refuses() -> None:
    with pytest.raises(ConfigurationError, match=r"no RunPod API key: set RUNPOD_API_KEY.*RunPod's console"):
        load_settings({}).refuse_without_key()


def test_a_key_file_must_be_readable_and_hold_something(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings({"RUNPOD_API_KEY_FILE": str(file)}).refuse_without_key()
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        load_settings({"RUNPOD_API_KEY_FILE": str(file)}).refuse_without_key()
    file.write_text("rpa_1")
    load_settings({"RUNPOD_API_KEY_FILE": str(file)}).refuse_without_key()


def test_a_key_with_a_name_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("rpa_1")
    load_settings({"RUNPOD_API_KEY_BILLING_A_FILE": str(file)}).refuse_without_key()


@pytest.mark.parametrize(
    "options",
    [("-n", "mine@%h"), ("-nmine@%h",), ("--hostname", "mine@%h"), ("--hostname=mine@%h",), ("-En", "mine")],
    ids=" ".join,
)
def test_a_given_node_name_is_kept(options: tuple[str, ...]) -> None:
    assert node_name(options) == []


@pytest.mark.parametrize("options", [(), ("-linfo", "-c", "4"), ("-l", "info", "--concurrency=4", "--without-gossip")])
def test_a_worker_is_not_called_as_a_projects_own(options: tuple[str, ...]) -> None:
    assert node_name(options) == ["-n", "runpod@%h"]


@pytest.mark.parametrize(
    ("options", "pool"),
    [
        ((), "prefork"),
        (("-c", "4", "-l", "info"), "prefork"),
        (("-P", "threads"), "threads"),
        (("-Pgevent", "-c", "4"), "gevent"),
        (("-EP", "solo"), "solo"),
        (("-c4", "--pool=eventlet"), "eventlet"),
        (("--pool", "gevent"), "gevent"),
    ],
)
def test_the_pool_is_read_from_celerys_options(options: tuple[str, ...], pool: str) -> None:
    assert pool_of(options) == pool


@pytest.mark.parametrize("pool", ["gevent", "eventlet", "custom"])
def test_a_pool_that_was_not_tried_is_refused_in_words(pool: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--pool {pool} given.*prefork .the default., threads or solo"):
        refuse_pool(pool, load_settings({}))


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_tasks_that_need_a_time_limit_are_refused_where_celery_keeps_none(pool: str) -> None:
    refuse_pool(pool, load_settings({}))
    with pytest.raises(ConfigurationError, match=f"--pool {pool} with RUNPOD_IMPORTS=shop.tasks given.*time limit"):
        refuse_pool(pool, load_settings({"RUNPOD_IMPORTS": "shop.tasks"}))
    refuse_pool("prefork", load_settings({"RUNPOD_IMPORTS": "shop.tasks"}))
    # RabbitMQ takes no message back while its worker is there.
    refuse_pool(pool, load_settings({"RUNPOD_IMPORTS": "shop.tasks", "RUNPOD_BROKER_URL": "amqp://127.0.0.1"}))


@pytest.mark.parametrize(("cpus", "processes"), [(None, 2), (1, 2), (8, 8)])
def test_also_on_one_cpu_a_worker_has_two_processes(
    cpus: int | None, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    assert celery_config(load_settings({}))["worker_concurrency"] == processes
