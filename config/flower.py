"""The arguments of `celery-runpod flower` for Flower's own command; refuses to serve Flower without a password.

Not here: the command itself (`celery_runpod/_cli/celery_commands.py`).
"""

from __future__ import annotations

import os
from pathlib import Path

from celery_runpod._store.states import OPEN
from celery_runpod.errors import ConfigurationError


def flower_arguments(given: tuple[str, ...]) -> list[str]:
    """The arguments for Flower's own command.

    Raises:
        ConfigurationError: Flower would have no password, or an entry of its passwords is empty. Flower can revoke and
            send tasks, and every user and every browser page of a machine reaches its loopback.
    """
    arguments: list[str] = []
    for argument in given:
        # Flower accepts `--port=5555` only; every other command also accepts `--port 5555`.
        if arguments and not argument.startswith("-") and arguments[-1].startswith("--") and "=" not in arguments[-1]:
            arguments[-1] += f"={argument}"
        else:
            arguments.append(argument)
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
    # Without --auth, an auth provider admits nobody, and Flower without a provider admits everybody.
    if passwords is None and not options.get("auth", "").strip():
        raise ConfigurationError(
            "Flower without a password: anybody who reaches it could cancel jobs and send tasks. Set "
            "FLOWER_BASIC_AUTH=user:password, or --auth-provider with --auth=PATTERN"
        )
    # Given on the command line, so that a flowerconfig.py in the current folder does not override them.
    for name in ("basic-auth", "auth"):
        if options.get(name) and not any(_name(argument) == name for argument in arguments):
            arguments.append(f"--{name}={options[name]}")
    # Flower's default keeps too few tasks for a large group.
    if "max-tasks" not in options:
        arguments.append("--max-tasks=100000")
    return arguments


def ask_password_for_metrics() -> None:
    """Make Flower's /metrics ask for the password too: Flower 2 shows it to everybody, with names of tasks and
    workers."""
    from flower.views.monitor import Metrics
    from tornado.web import authenticated

    Metrics.get = authenticated(Metrics.get)


WITH_BUTTON = ("STARTED", *map(str, OPEN))


def offer_cancel() -> None:
    """Show Flower's button "Terminate", which cancels a job, on the page of every open job. Flower itself shows it in
    Celery's state STARTED alone."""
    from flower.urls import settings
    from tornado.template import Loader, Template

    class OpenJobs(Loader):
        """Flower's own templates, with the condition of that button widened."""

        def _create_template(self, name: str) -> Template:
            text = (Path(self.root) / name).read_text(encoding="utf-8")
            text = text.replace(
                'if task.state == "STARTED" %}\n      <button',
                f"if task.state in {WITH_BUTTON} %}}\n      <button",
            )
            return Template(text, name=name, loader=self)

    settings["template_loader"] = OpenJobs(settings["template_path"])


def _options(arguments: list[str]) -> dict[str, str]:
    """Option -> value as Flower reads it: the command line overrides variables, and its last one counts."""
    variables = ("basic-auth", "auth", "address", "unix-socket")
    options = {name: os.environ.get(f"FLOWER_{name.replace('-', '_').upper()}", "") for name in variables}
    found = {name: value for name, value in options.items() if value}
    # `flower_arguments` always gives an address, so its variable does not count.
    found.pop("address", None)
    return found | {_name(argument): argument.partition("=")[2] for argument in arguments if argument.startswith("-")}


def _name(argument: str) -> str:
    """The name of an option. Tornado accepts any number of leading dashes, and underscores for dashes."""
    return argument.partition("=")[0].lstrip("-").replace("_", "-")
