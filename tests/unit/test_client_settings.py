"""What a client reads from its environment, and what is shown of it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from celery_runpod._connect import VARIABLES, ClientSettings, client_settings, mask_url, redis_url
from celery_runpod.errors import ConfigurationError
from config.settings import load_settings


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://h/0"),
        ("REDIS_URL", "redis://localhost:port/0"),
        ("REDIS_URL", "redis://:top/secret@h:6379/0"),
        ("RUNPOD_STORE_URL", "amqp://h"),
        ("RUNPOD_BROKER_URL", "h:5672"),
    ],
)
def test_a_mistaken_url_is_told_by_its_name_and_not_shown(name: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} .*allowed: ") as caught:
        ClientSettings.from_env({name: url})
    assert url not in str(caught.value)


def test_a_worker_refuses_a_url_that_cannot_be_read_too() -> None:
    with pytest.raises(ConfigurationError, match="percent-encode") as caught:
        load_settings({"REDIS_URL": "redis://:top/secret@h:6379/0", "RUNPOD_API_KEY": "k"})
    assert "secret@" not in str(caught.value)


def test_sound_urls_are_taken_as_they_are() -> None:
    env = {"REDIS_URL": "rediss://u:p%2Fq@h:6380/1", "RUNPOD_BROKER_URL": "amqp://u:p@h:5672//;amqp://u:p@other//"}
    settings = ClientSettings.from_env(env)
    assert (settings.store_url, settings.broker_url) == (env["REDIS_URL"], env["RUNPOD_BROKER_URL"])


def test_every_variable_that_is_read_is_one_whose_change_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Read(dict[str, str]):
        names: ClassVar[set[str]] = set()

        def get(self, name: str, default: Any = None) -> Any:
            self.names.add(name)
            return super().get(name, default)

    ClientSettings.from_env(Read(REDIS_URL="redis://h/0"))
    assert Read.names == set(VARIABLES)
    for namespace in ("one", "other", "one"):
        monkeypatch.setenv("RUNPOD_NAMESPACE", namespace)
        assert client_settings().namespace == namespace


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("amqp://me:secret@h//", "amqp://me:***@h//"),
        ("redis://:top/sec#ret@h/0", "redis://:***@h/0"),
        ("redis://h/0?password=secret&db=1", "redis://h/0?password=***&db=1"),
    ],
)
def test_a_password_is_masked_however_it_is_written(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_celerys_words_for_a_certificate_become_those_of_redis_py() -> None:
    assert redis_url("rediss://h/0?ssl_cert_reqs=CERT_NONE&db=1") == "rediss://h/0?ssl_cert_reqs=none&db=1"
    assert redis_url("rediss://h/0?ssl_cert_reqs=required") == "rediss://h/0?ssl_cert_reqs=required"
