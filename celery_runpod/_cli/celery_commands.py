"""`celery-runpod worker` and `celery-runpod flower`: Celery's own commands for the RunPod queues, with all their options.

The worker application is imported before Celery starts, because Celery puts the current folder first on the path, and a
project there may have packages of the same names. Not here: when Flower is refused, and its settings
(`config/flower.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import click

from celery_runpod._cli.service_path import put_service_on_path, service_root

NODE = "runpod"
_SHORT_NAME = re.compile(r"-[BDE]*n")
"""`-n NAME`, `-nNAME`, and with flags before it (`-En NAME`)."""


def import_service() -> None:
    """Import the worker application, and nothing else of the same names.

    Raises:
        ConfigurationError: a setting is wrong.
        ModuleNotFoundError: a package of the extra "worker" is missing.
    """
    put_service_on_path()
    import celery_app
    import config.settings
    import tasks.run

    for module in (celery_app, config, tasks):
        if not str(module.__file__).startswith(str(service_root())):
            raise click.ClickException(f"{module.__name__} was imported from {module.__file__} before the worker's own")
    celery_app.celery  # noqa: B018 - makes the app, and raises what is wrong with the settings


def celery_command(function: Callable[[tuple[str, ...]], None]) -> click.Command:
    """Make a command of a function: all its options, `--help` included, are for Celery's own command."""
    unparsed = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    options = click.argument("options", nargs=-1, type=click.UNPROCESSED)
    return click.command(context_settings=unparsed, add_help_option=False)(options(function))


@celery_command
def worker(options: tuple[str, ...]) -> None:
    """Run a worker. Takes every option of `celery worker`; scale by starting more."""
    import_service()
    from celery.bin.celery import celery as celery_group

    from config.pools import pool_of, refuse_pool
    from config.settings import load_settings

    # Before Celery shows its banner and opens connections.
    settings = load_settings()
    settings.refuse_without_key()
    refuse_pool(pool_of(options), settings)

    arguments = ["-A", "celery_app", "worker", *node_name(options), *options]
    celery_group.main(args=arguments, prog_name="celery-runpod")


def node_name(options: Sequence[str]) -> list[str]:
    """The option `-n runpod@host`, unless a name is given. A project's own worker on the same machine is celery@host, and
    Flower and `celery inspect` mix up two workers of one name."""
    given = any(option.split("=")[0] == "--hostname" or _SHORT_NAME.match(option) for option in options)
    return [] if given else ["-n", f"{NODE}@%h"]


@celery_command
def flower(options: tuple[str, ...]) -> None:
    """Watch jobs and workers in a browser, with the password of FLOWER_BASIC_AUTH=user:password. On loopback, unless
    --address says otherwise."""
    import_service()
    from celery.bin.celery import celery as celery_group

    from config.flower import ask_password_for_metrics, flower_arguments, offer_cancel

    arguments = flower_arguments(options)
    ask_password_for_metrics()
    offer_cancel()
    celery_group.main(args=["-A", "celery_app", "flower", *arguments], prog_name="celery-runpod")
