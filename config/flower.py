"""Flower's settings for `celery-runpod flower`, with a reason beside each, and the guard of its port.

Not here: the command itself (`celery_runpod/_cli/celery_commands.py`).
"""

from __future__ import annotations

import os

from celery_runpod.errors import ConfigurationError


def flower_arguments(given: tuple[str, ...]) -> list[str]:
    """The arguments for Flower's own command.

    Raises:
        ConfigurationError: it would be reachable without a password, or an entry of its passwords is empty. Flower can
            revoke and send tasks; and every user of a machine, and every page in its browser, reaches loopback.
    """
    arguments: list[str] = []
    for word in given:
        # Flower takes `--port=5555` alone; `--port 5555` is what every other command of ours takes.
        if arguments and not word.startswith("-") and arguments[-1].startswith("--") and "=" not in arguments[-1]:
            arguments[-1] += f"={word}"
        else:
            arguments.append(word)
    options = _options(arguments)
    passwords = options.get("basic-auth")
    # An empty entry matches an empty user and password.
    if passwords is not None and not all(all(entry.partition(":")[::2]) for entry in passwords.split(",")):
        raise ConfigurationError(
            "Flower's --basic-auth (FLOWER_BASIC_AUTH) has an entry without a user or a password; allowed: "
            "user:password, or several with commas between"
        )
    if "address" not in options:
        arguments.append("--address=127.0.0.1")
    # Without --auth an auth provider admits nobody, and Flower itself admits everybody.
    if passwords is None and not options.get("auth", "").strip():
        raise ConfigurationError(
            "Flower without a password: anybody who reaches it could cancel jobs and send tasks. Set "
            "FLOWER_BASIC_AUTH=user:password, or --auth-provider with --auth=PATTERN"
        )
    # The command line overrides a flowerconfig.py in the current folder.
    for name in ("basic-auth", "auth"):
        if options.get(name) and not any(_name(argument) == name for argument in arguments):
            arguments.append(f"--{name}={options[name]}")
    # Every worker keeps its events in order; more tasks than the default can be looked at after a large group.
    if "max-tasks" not in options:
        arguments.append("--max-tasks=100000")
    return arguments


def ask_password_for_metrics() -> None:
    """Have Flower's /metrics ask for what its other pages ask for: Flower 2 answers it to everybody, with the names of
    tasks and workers."""
    from flower.views.monitor import Metrics
    from tornado.web import authenticated

    Metrics.get = authenticated(Metrics.get)


def _options(arguments: list[str]) -> dict[str, str]:
    """Option -> value as Flower reads it: variables first, then the command line, of which the last one counts."""
    variables = ("basic-auth", "auth", "address", "unix-socket")
    options = {name: os.environ.get(f"FLOWER_{name.replace('-', '_').upper()}", "") for name in variables}
    found = {name: value for name, value in options.items() if value}
    # The command line always gives an address, so that the variable does not count.
    found.pop("address", None)
    return found | {_name(argument): argument.partition("=")[2] for argument in arguments if argument.startswith("-")}


def _name(argument: str) -> str:
    """Tornado takes any number of dashes, and underscores for the dashes within."""
    return argument.partition("=")[0].lstrip("-").replace("_", "-")
