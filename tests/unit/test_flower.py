"""Flower is served with a password alone, in every spelling that it takes."""

from __future__ import annotations

import pytest

from celery_runpod.errors import ConfigurationError
from config.flower import flower_arguments

ANYWHERE = "--address=0.0.0.0"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BASIC_AUTH", "AUTH", "AUTH_PROVIDER", "ADDRESS", "UNIX_SOCKET"):
        monkeypatch.delenv(f"FLOWER_{name}", raising=False)


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("--address=127.0.0.1",),
        (ANYWHERE,),
        ("--address", "0.0.0.0"),
        ("-address=0.0.0.0",),
        ("--address=127.0.0.1", ANYWHERE),
        ("--address=",),
        ("--address=10.0.0.7",),
        ("--unix-socket=/tmp/flower.sock",),
        ("--unix_socket=/tmp/flower.sock",),
        (ANYWHERE, "--auth-provider=flower.views.auth.GoogleAuth2LoginHandler"),
        (ANYWHERE, "--auth_provider=x", "--auth="),
        (ANYWHERE, "--auth="),
    ],
    ids=" ".join,
)
def test_without_a_password_it_is_not_served(given: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="without a password"):
        flower_arguments(given)


@pytest.mark.parametrize("entries", ["", ":", "user:", ":password", "user", "user:password,", "a:b,c:"])
@pytest.mark.parametrize("option", ["--basic-auth", "--basic_auth", "-basic-auth"])
def test_an_empty_user_or_password_is_refused(option: str, entries: str) -> None:
    with pytest.raises(ConfigurationError, match="without a user or a password"):
        flower_arguments((ANYWHERE, f"{option}={entries}"))


def test_an_empty_option_is_not_covered_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "user:password")
    assert "--basic-auth=user:password" in flower_arguments((ANYWHERE,))
    with pytest.raises(ConfigurationError):
        flower_arguments((ANYWHERE, "--basic-auth="))
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "user:")
    with pytest.raises(ConfigurationError):
        flower_arguments((ANYWHERE,))


@pytest.mark.parametrize(
    "given",
    [
        ("--basic-auth=a:b",),
        ("--address=::1", "--basic-auth=a:b"),
        (ANYWHERE, "--basic-auth=a:b,c:d"),
        (ANYWHERE, "--auth-provider=x", "--auth=.*@example.org"),
    ],
    ids=" ".join,
)
def test_what_is_protected_is_served(given: tuple[str, ...]) -> None:
    arguments = flower_arguments(given)
    assert set(given) <= set(arguments)
    assert any(argument.startswith("--address=") for argument in arguments)


def test_the_address_of_a_variable_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_ADDRESS", "0.0.0.0")
    assert "--address=127.0.0.1" in flower_arguments(("--basic-auth=a:b",))
