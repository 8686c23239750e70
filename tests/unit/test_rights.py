"""What a message may choose: the management tasks, an API key by name, and names that read other variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celery_runpod._connect import ClientSettings
from celery_runpod._protocol import WAIT_FOR_POD
from celery_runpod.api import ManagementClient, RunPodClient
from celery_runpod.api._access import clear_text_problem
from celery_runpod.api._operations import MANAGEMENT
from celery_runpod.errors import ConfigurationError, InvalidInput, InvalidOption
from celery_runpod.options import Options
from config.profiles import Profile, load_profiles
from config.settings import VARIABLES, load_settings
from tests.builders import Bench

KEYS = {"RUNPOD_API_KEY_A": "key-a", "RUNPOD_API_KEY_B": "key-b", "RUNPOD_API_KEY_C": "key-c"}
BY_PROFILE = {"sdxl": Profile("id1", Options(api_key_name="a"), api_key_names=frozenset({"b"}))}
BY_VARIABLE = {"RUNPOD_ENDPOINT_FLUX": "id2", "RUNPOD_ENDPOINT_FLUX_API_KEY_NAMES": "a, c"}


class Untouched:
    """A management client that nothing may be asked of."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was called")


@pytest.mark.parametrize("task", [*MANAGEMENT, WAIT_FOR_POD])
def test_without_the_switch_a_worker_answers_no_management_task(task: str) -> None:
    bench = Bench()
    bench.management = Untouched()
    with pytest.raises(ConfigurationError, match="RUNPOD_MANAGEMENT=on"):
        bench.app.tasks[task].apply(args=("p1",), throw=True)


def test_a_management_task_uses_the_listed_keys_alone() -> None:
    settings = load_settings({**KEYS, "RUNPOD_MANAGEMENT": "on", "RUNPOD_MANAGEMENT_API_KEY_NAMES": "a,b"})
    for allowed in (None, "a", "b"):
        settings.check_management(allowed)
    with pytest.raises(InvalidOption, match="'c' given; allowed: a, b"):
        settings.check_management("c")


@pytest.mark.parametrize(
    ("endpoint", "name", "allowed"),
    [("id1", "sdxl", "ab"), ("id1", "id1", "ab"), ("id2", "flux", "ac"), ("id2", "id2", "ac"), ("id3", "id3", "")],
)
def test_a_call_uses_the_keys_that_its_endpoint_lists(endpoint: str, name: str, allowed: str) -> None:
    bench = Bench(BY_PROFILE, **KEYS, **BY_VARIABLE)
    assert bench.settings.resolve(name)[0] == endpoint
    bench.settings.check_key_name(endpoint, name, None)
    for key_name in "abc":
        if key_name in allowed:
            bench.settings.check_key_name(endpoint, name, key_name)
            continue
        with pytest.raises(InvalidOption) as refused:
            bench.settings.check_key_name(endpoint, name, key_name)
        text = str(refused.value)
        assert f"endpoint {name}" in text and f"'{key_name}' given" in text
        assert (", ".join(allowed) or "no name") in text and f"key-{key_name}" not in text


@pytest.mark.parametrize("task", ["runpod.health", "runpod.purge_queue"])
def test_what_is_asked_of_an_endpoint_uses_its_keys_alone(task: str) -> None:
    bench = Bench(BY_PROFILE, **KEYS)
    with pytest.raises(InvalidOption, match="api_key_name"):
        bench.app.tasks[task].apply(args=("id1",), kwargs={"api_key_name": "c"}, throw=True)
    assert bench.runpod.calls == []


def test_a_refused_call_is_not_submitted() -> None:
    bench = Bench(**KEYS)
    bench.app.tasks["runpod.run"].apply(kwargs={"endpoint": "e1", "options": {"api_key_name": "a"}}, task_id="t1")
    job = bench.store.ids.job("t1")
    assert job is not None and "api_key_name" in job["outcome"]
    assert bench.runpod.calls == []


def test_a_key_that_was_given_for_its_name_is_not_shown() -> None:
    secret = "rpa_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh"
    with pytest.raises(InvalidOption) as refused:
        load_settings({}).check_key_name("id1", "id1", secret)
    assert secret not in str(refused.value) and "48 characters" in str(refused.value)


@pytest.mark.parametrize("name", ["file", "File", "a-file", "a_file"])
def test_a_name_of_a_key_reads_no_other_variable(name: str) -> None:
    settings = load_settings({"RUNPOD_API_KEY_FILE": "/run/key", "RUNPOD_API_KEY_A_FILE": "/run/a"})
    with pytest.raises(ConfigurationError, match="names a file"):
        settings.key(name)


def test_a_name_of_an_endpoint_reads_no_other_variable() -> None:
    settings = load_settings({"RUNPOD_ENDPOINT_BASE_URL": "http://127.0.0.1:1/v2", **BY_VARIABLE})
    for name in ("base_url", "base-url", "flux_api_key_names"):
        with pytest.raises(InvalidInput, match="another setting"):
            settings.resolve(name)
        # The call that was refused for its name is delivered.
        assert settings.keep_failed(name) == settings.keep_failed_s
    taken = [one for one in VARIABLES if one.startswith("RUNPOD_ENDPOINT_")]
    assert taken == ["RUNPOD_ENDPOINT_BASE_URL"], "a new one is refused as a name too"


def test_settings_read_the_environment_that_they_were_given() -> None:
    settings = load_settings({"RUNPOD_ENDPOINT_SDXL": "abc", "RUNPOD_API_KEY_A": "key-a"})
    assert settings.resolve("sdxl")[0] == "abc"
    assert settings.key("a") == "key-a"


def test_key_names_of_a_profile_are_a_list_of_names(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.toml"
    file.write_text('[endpoints.sdxl]\nid = "x"\napi_key_names = ["a", "b"]\n')
    assert load_profiles(file)["sdxl"].api_key_names == {"a", "b"}
    file.write_text('[endpoints.sdxl]\nid = "x"\napi_key_names = "rpa_secret"\n')
    with pytest.raises(ConfigurationError, match="api_key_names: str given") as refused:
        load_profiles(file)
    assert "rpa_secret" not in str(refused.value)


# http://

PUBLIC = ["api.runpod.ai", "8.8.8.8", "134744072", "0x08080808", "[2606:4700::1]", "[::ffff:8.8.8.8]", "runpod.ai."]
NEAR = ["127.0.0.1", "localhost", "simulator", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "[::1]"]
NEAR += ["[fd00::1]", "[fe80::1]", "2130706433"]


@pytest.mark.parametrize("host", PUBLIC)
def test_clear_text_to_a_public_host_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://{host}:8080/v2"
    for variable in ("RUNPOD_BASE_URL", "RUNPOD_REST_URL", "RUNPOD_WEBHOOK_URL"):
        env = {variable: url, "RUNPOD_WEBHOOK_SECRET": "s" * 16}
        with pytest.raises(ConfigurationError, match=f"{variable} is http:.*RUNPOD_ALLOW_HTTP=1"):
            load_settings(env)
        load_settings({**env, "RUNPOD_ALLOW_HTTP": "1"})
    for client in (RunPodClient, ManagementClient):
        with pytest.raises(ConfigurationError, match="RUNPOD_ALLOW_HTTP=1"):
            client("key", base_url=url)
        client("key", base_url=url, allow_http=True)
    monkeypatch.setenv("RUNPOD_ALLOW_HTTP", "1")
    for client in (RunPodClient, ManagementClient):
        client("key", base_url=url)
        with pytest.raises(ConfigurationError):
            client("key", base_url=url, allow_http=False)


@pytest.mark.parametrize("host", NEAR)
def test_clear_text_stays_allowed_where_it_does_not_leave_the_network(host: str) -> None:
    assert clear_text_problem(f"http://{host}:8900/v2", allow_http=False) is None
    assert clear_text_problem("https://api.runpod.ai/v2", allow_http=False) is None


# Secrets of webhooks


@pytest.mark.parametrize("variable", ["RUNPOD_WEBHOOK_SECRET", "RUNPOD_WEBHOOK_SECRET_PREVIOUS"])
def test_a_short_secret_is_refused_and_not_shown(variable: str) -> None:
    for load in (load_settings, ClientSettings.from_env):
        with pytest.raises(ConfigurationError, match=f"{variable}.* 15 characters; allowed: at least 16") as refused:
            load({variable: "fifteen-letters"})
        assert "fifteen-letters" not in str(refused.value)
        load({variable: "sixteen--letters"})
