"""Flower's settings for `celery-runpod flower`, with a reason beside each. Next: `celery_runpod/cli/flower.py`."""

from __future__ import annotations

import os

from celery_runpod.errors import ConfigurationError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def flower_arguments(given: tuple[str, ...]) -> list[str]:
    """The arguments for Flower's own command.

    Raises:
        ConfigurationError: it would be reachable from elsewhere without a password; Flower can revoke tasks.
    """
    arguments: list[str] = []
    for word in given:
        # Flower takes `--port=5555` alone; `--port 5555` is what every other command of ours takes.
        if arguments and not word.startswith("-") and arguments[-1].startswith("--") and "=" not in arguments[-1]:
            arguments[-1] += f"={word}"
        else:
            arguments.append(word)
    names = {argument.partition("=")[0] for argument in arguments}
    auth = os.environ.get("FLOWER_BASIC_AUTH")
    protected = bool(auth) or any(name.endswith("auth") or name.endswith("auth-provider") for name in names)
    address = next((a.partition("=")[2] for a in arguments if a.startswith("--address=")), None)
    if address is None:
        address = "127.0.0.1"
        arguments.append(f"--address={address}")
    if address not in LOOPBACK and not protected:
        raise ConfigurationError(
            f"Flower at {address} without a password: anybody could cancel jobs. Set FLOWER_BASIC_AUTH=user:password"
        )
    if auth and "--basic-auth" not in names and "--basic_auth" not in names:
        arguments.append(f"--basic-auth={auth}")
    # Every worker keeps its events in order; more tasks than the default can be looked at after a large group.
    if "--max-tasks" not in names and "--max_tasks" not in names:
        arguments.append("--max-tasks=100000")
    return arguments
