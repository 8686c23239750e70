"""What URLs of clusters and Sentinels name, and how Celery gets them."""

from __future__ import annotations

import pytest
from celery import Celery

from celery_runpod._connect import ClientSettings, backend_of, broker_of, celery_urls, mask_url, store_url
from celery_runpod._redis_urls import for_celery, is_sentinel, place_of_url
from celery_runpod.errors import ConfigurationError
from config.celery_config import celery_config
from config.settings import load_settings

SENTINELS = "redis+sentinel://me:p%2Fw@h1:26380,h2/3?master_name=prime&sentinel_password=other"
CLUSTER = "redis+cluster://:secret@h1:7000,h2"
KEY = {"RUNPOD_API_KEY": "k"}


def test_a_cluster_is_its_nodes_and_how_to_reach_them() -> None:
    place = place_of_url(f"{CLUSTER}?socket_timeout=2")
    assert place.nodes == (("h1", 7000), ("h2", 6379))
    assert place.options == {"password": "secret", "socket_timeout": 2.0}
    assert "secret" not in repr(place)
    assert place_of_url("rediss+cluster://h1,[::1]:7001").nodes == (("h1", 6379), ("::1", 7001))
    assert place_of_url("rediss+cluster://h1").options["ssl"] is True


def test_sentinels_in_our_words_and_in_celerys_are_the_same() -> None:
    place = place_of_url(SENTINELS)
    assert (place.nodes, place.master_name) == ((("h1", 26380), ("h2", 26379)), "prime")
    assert place.options == {"db": 3, "username": "me", "password": "p/w"}
    assert place.of_sentinels == {"password": "other"}
    url, options = for_celery(SENTINELS)
    assert url == "sentinel://me:p%2Fw@h1:26380/3;sentinel://me:p%2Fw@h2:26379/3"
    assert options == {"master_name": "prime", "sentinel_kwargs": {"password": "other"}}
    again = place_of_url(f"{url}?master_name=prime&sentinel_password=other")
    assert again == place


def test_what_celery_gets_for_a_worker() -> None:
    config = celery_config(load_settings({**KEY, "REDIS_URL": SENTINELS}))
    assert config["broker_url"] == config["result_backend"] == for_celery(SENTINELS)[0]
    assert config["broker_transport_options"]["master_name"] == "prime"
    assert config["broker_transport_options"]["visibility_timeout"] == 90
    assert config["result_backend_transport_options"]["master_name"] == "prime"
    backend = Celery("bench", set_as_current=False)
    backend.config_from_object(config)
    assert type(backend.backend).__name__ == "ChordKeepingSentinelBackend"


def test_the_master_may_be_a_setting() -> None:
    env = {**KEY, "REDIS_URL": "sentinel://h1;sentinel://h2", "RUNPOD_SENTINEL_MASTER_NAME": "prime"}
    settings = load_settings(env)
    assert {settings.broker_url, settings.store_url} == {"sentinel://h1;sentinel://h2?master_name=prime"}
    assert ClientSettings.from_env(env).store_url == settings.store_url
    assert place_of_url(settings.store_url).master_name == "prime"


def test_a_callers_app_names_its_master_as_celery_wants_it() -> None:
    app = Celery("caller", set_as_current=False)
    app.conf.update(celery_urls(SENTINELS, SENTINELS))
    for url in (broker_of(app), backend_of(app), store_url(app)):
        assert is_sentinel(url)
        assert place_of_url(url) == place_of_url(SENTINELS)
    app.conf.broker_url = ["amqp://one//", "amqp://two//"]
    assert broker_of(app) == "amqp://one//"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"REDIS_URL": CLUSTER}, "names a Redis Cluster: Celery has no broker"),
        ({"RUNPOD_BROKER_URL": CLUSTER}, "names a Redis Cluster: Celery has no broker"),
        ({"RUNPOD_RESULT_BACKEND": CLUSTER}, "names a Redis Cluster: Celery has no broker"),
        ({"RUNPOD_STORE_URL": "redis+sentinel://h1/0"}, "names Sentinels and no master"),
        ({"REDIS_URL": "sentinel://h1/0"}, "names Sentinels and no master"),
        ({"RUNPOD_STORE_URL": "redis+cluster://h1:port"}, "give each server as host:port"),
        ({"RUNPOD_STORE_URL": f"{CLUSTER}/1"}, "has database 0 alone"),
        ({"RUNPOD_BROKER_URL": SENTINELS.replace("redis+", "rediss+")}, "TLS behind Sentinel"),
    ],
)
def test_what_cannot_be_is_refused_in_words_without_the_url(env: dict[str, str], words: str) -> None:
    for read in (ClientSettings.from_env, lambda given: load_settings({**KEY, **given})):
        with pytest.raises(ConfigurationError, match=words) as caught:
            read(env)
        assert "secret" not in str(caught.value)


def test_replicas_are_asked_on_a_cluster_and_behind_sentinel_alone() -> None:
    for url, wanted in ((CLUSTER, 1), (SENTINELS, 1), ("redis://h/0", 0)):
        assert load_settings({**KEY, "RUNPOD_STORE_URL": url}).replicas_wanted == wanted
    more = {"RUNPOD_STORE_URL": CLUSTER, "RUNPOD_STORE_REPLICAS": "0"}
    assert load_settings({**KEY, **more}).replicas_wanted == 0


def test_no_password_is_shown() -> None:
    assert mask_url(CLUSTER) == "redis+cluster://:***@h1:7000,h2"
    for url in (SENTINELS, for_celery(SENTINELS)[0]):
        assert "p%2Fw" not in mask_url(url)
        assert "other" not in mask_url(url)
