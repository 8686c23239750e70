"""Profiles: what belongs to one and to no call, and that its S3 secrets go to RunPod and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celery_runpod.errors import ConfigurationError, InvalidOption
from celery_runpod.options import Options
from config.profiles import Profile, load_profiles
from tests.builders import ENDPOINT, Bench

S3 = {
    "accessId": "an-access-id",
    "accessSecret": "an-access-secret",
    "bucketName": "b",
    "endpointUrl": "https://s3.test",
}


def profiles(folder: Path, text: str) -> dict[str, Profile]:
    file = folder / "endpoints.toml"
    file.write_text(text)
    return load_profiles(file)


def test_s3_config_goes_with_the_submit_and_is_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench({ENDPOINT: Profile(ENDPOINT, s3_config=S3)})
    sent: list[dict[str, Any]] = []
    run = bench.runpod.run

    def seen(endpoint: str, input: Any, **extra: Any) -> Any:
        sent.append(extra)
        return run(endpoint, input)

    monkeypatch.setattr(bench.runpod, "run", seen)
    job = bench.accepted()
    assert sent[0]["s3_config"] == S3
    stored = repr([bench.redis.dump(key) for key in bench.redis.scan_iter()])
    assert "an-access" not in stored + repr(job) + repr(bench.settings.profiles)


def test_a_file_that_is_no_text_and_one_without_tables_are_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.toml"
    file.write_bytes('[endpoints.a]\nid = "ä"\n'.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="cannot be read: it is not UTF-8"):
        load_profiles(file)
    with pytest.raises(ConfigurationError, match="a table for each endpoint is needed"):
        profiles(tmp_path, "endpoints = 3\n")


@pytest.mark.parametrize("name", ["s3Config", "s3_config", "max_in_flight", "keep_failed_s"])
def test_what_is_a_profiles_own_is_no_option_of_a_call(name: str) -> None:
    with pytest.raises(InvalidOption, match="allowed"):
        Options.parse({name: S3})


def test_a_profile(tmp_path: Path) -> None:
    text = '[endpoints.a]\nid = "abc"\napi_key_name = "blue"\nkeep_failed_s = 60\nmax_in_flight = 3\ndeadline = 900\n'
    found = profiles(tmp_path, text)["a"]
    assert (found.id, found.keep_failed_s, found.max_in_flight) == ("abc", 60.0, 3)
    assert (found.options.api_key_name, found.options.deadline) == ("blue", 900.0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('s3Config = {accessId = "x", region = "y"}', "s3Config: allowed fields"),
        ("keep_failed_s = -1", "keep_failed_s"),
        ("keep_failed_s = true", "keep_failed_s"),
        ("max_in_flight = 0", "max_in_flight"),
        ('idempotency_key = "k"', "belongs to a call"),
    ],
)
def test_a_wrong_profile_is_refused_in_words(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        profiles(tmp_path, f'[endpoints.a]\nid = "abc"\n{line}\n')
