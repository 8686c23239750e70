"""API keys by name: the name travels, never the key; a key changes, or is taken away, while jobs are open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from celery_runpod.errors import ConfigurationError, DeadlineExceeded, Unauthorized
from tests.servers import API_KEY, ROOT, World
from tests.waiting import eventually

WAIT_S = 60
OLD_KEY = "an-old-key-that-runpod-refuses"


@dataclass
class Keys:
    """A world whose worker reads the key named `team` from a file."""

    world: World
    file: Path

    def everything_stored(self) -> str:
        """All that Redis holds, as one text."""
        redis: Any = self.world.redis
        read = {"string": redis.get, "hash": redis.hgetall, "set": redis.smembers}
        kinds = {key: redis.type(key) for key in redis.scan_iter(count=1000)}
        lists = {key: redis.lrange(key, 0, -1) for key, kind in kinds.items() if kind == "list"}
        zsets = {key: redis.zrange(key, 0, -1) for key, kind in kinds.items() if kind == "zset"}
        return repr((lists, zsets, {key: read[kind](key) for key, kind in kinds.items() if kind in read}))


@contextmanager
def keys_of(folder: Path, **env: str) -> Iterator[Keys]:
    file, config = folder / "team-key", folder / "endpoints.toml"
    file.write_text(API_KEY)
    config.write_text('[endpoints.teams]\nid = "fast"\napi_key_name = "team"\napi_key_names = ["nobody"]\n')
    env = {"RUNPOD_API_KEY": "", "RUNPOD_API_KEY_TEAM_FILE": str(file), "RUNPOD_CONFIG": str(config), **env}
    env |= {"RUNPOD_ENDPOINT_FIVE": "five", "RUNPOD_ENDPOINT_FIVE_API_KEY_NAMES": "team"}
    with World(folder / "world", endpoints=("fast=synthetic:duration=0.3", "five=synthetic:duration=5")) as world:
        world.stack.worker(env=env, cwd=ROOT)
        yield Keys(world, file)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    with keys_of(tmp_path_factory.mktemp("keys")) as keys:
        yield keys


@pytest.fixture
def keys(servers: Keys) -> Iterator[Keys]:
    """The right key is in its file, at the beginning and at the end."""
    servers.world.app()
    servers.file.write_text(API_KEY)
    yield servers
    servers.file.write_text(API_KEY)


def test_a_key_by_its_name_in_a_call_and_in_a_profile(keys: Keys) -> None:
    world = keys.world
    completed = world.endpoint("teams").health().completed
    by_call = world.endpoint("fast", api_key_name="team").delay(a=1)
    by_profile = world.endpoint("teams").delay(a=2)
    assert (by_call.get(timeout=WAIT_S), by_profile.get(timeout=WAIT_S)) == ({"a": 1}, {"a": 2})
    open_one = world.endpoint("five", api_key_name="team").delay(a=3)
    eventually(lambda: open_one.state, "IN_PROGRESS")
    stored = keys.everything_stored()
    assert "team" in stored
    assert API_KEY not in stored
    assert world.endpoint("teams").health().completed == completed + 2
    with pytest.raises(ConfigurationError, match="RUNPOD_API_KEY"):
        world.endpoint("fast").health()
    with pytest.raises(ConfigurationError, match="RUNPOD_API_KEY_NOBODY") as caught:
        world.endpoint("fast", api_key_name="nobody").delay(a=4).get(timeout=WAIT_S)
    assert API_KEY not in str(caught.value)
    assert open_one.get(timeout=WAIT_S) == {"a": 3}
    eventually(world.open_jobs, [])


def test_a_key_that_is_rotated_while_a_job_runs(keys: Keys) -> None:
    endpoint = keys.world.endpoint("five", api_key_name="team")
    job = endpoint.delay(a=1)
    eventually(lambda: job.state, "IN_PROGRESS")
    keys.file.write_text(OLD_KEY)
    eventually(lambda: job.reason, "UNAUTHORIZED")
    keys.file.write_text(API_KEY)
    assert job.get(timeout=WAIT_S) == {"a": 1}


def test_a_key_that_is_taken_away_ends_no_job_before_its_deadline(keys: Keys) -> None:
    endpoint = keys.world.endpoint("five", api_key_name="team")
    job = endpoint.using(deadline=4).delay(a=1)
    eventually(lambda: job.state, "IN_PROGRESS")
    keys.file.unlink()
    eventually(lambda: job.reason, "UNAUTHORIZED")
    with pytest.raises(DeadlineExceeded, match="UNAUTHORIZED"):
        job.get(timeout=WAIT_S)
    with pytest.raises(ConfigurationError, match="RUNPOD_API_KEY_TEAM_FILE"):
        endpoint.delay(a=2).get(timeout=WAIT_S)
    # The cancel is owed until the key is back, and then sent.


def test_jobs_wait_for_a_key_where_the_setting_says_so(tmp_path: Path) -> None:
    with keys_of(tmp_path, RUNPOD_ON_UNAUTHORIZED="wait") as keys:
        world = keys.world
        keys.file.write_text(OLD_KEY)
        refused = world.endpoint("fast", api_key_name="team").delay(a=1)
        unknown = world.endpoint("fast", api_key_name="nobody").delay(a=2)
        for job in (refused, unknown):
            eventually(lambda job=job: (job.state, job.reason), ("WAITING", "UNAUTHORIZED"))
        assert requests.get(f"{world.simulator_url}/_simulator/jobs", timeout=5).json() == []
        for job in (refused, unknown):
            job.cancel()
            eventually(lambda job=job: job.state, "REVOKED")


def test_a_refused_key_is_a_typed_error_without_the_key(keys: Keys) -> None:
    keys.file.write_text(OLD_KEY)
    with pytest.raises(Unauthorized) as caught:
        keys.world.endpoint("fast", api_key_name="team").delay(a=1).get(timeout=WAIT_S)
    assert OLD_KEY not in repr(caught.value) + str(caught.value)
    assert OLD_KEY not in keys.everything_stored()
