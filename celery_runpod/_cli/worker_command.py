"""`celery-runpod worker`: Celery's own worker command, for the RunPod queues, with all its options.

The worker's packages are called `celery_app`, `tasks` and `config`, as a web project's own often are. So they lie in a
private folder, which comes first on the path of this process alone; and they are imported before Celery starts, which
would put the current folder before it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import click

from celery_runpod._devstack.stack import service_root

NODE = "runpod"
_SHORT_NAME = re.compile(r"-[BDE]*n")
"""`-n NAME`, `-nNAME`, and with flags before it (`-En NAME`)."""


def import_service() -> None:
    """Import the worker application from where it lies.

    Raises:
        ConfigurationError: a setting is wrong.
        ModuleNotFoundError: a package of the extra "worker" is missing.
    """
    sys.path.insert(0, str(service_root()))
    import celery_app
    import config.settings
    import tasks.run

    for module in (celery_app, config, tasks):
        if not str(module.__file__).startswith(str(service_root())):
            raise click.ClickException(f"{module.__name__} was imported from {module.__file__} before the worker's own")
    celery_app.celery  # noqa: B018 - makes the app, and raises what is wrong with the settings


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def worker(options: tuple[str, ...]) -> None:
    """Run a worker. Takes every option of `celery worker`; scale by starting more."""
    import_service()
    from celery.bin.celery import celery as celery_command

    from config.settings import load_settings

    # Celery's banner and its connections come first otherwise.
    load_settings().refuse_without_key()

    arguments = ["-A", "celery_app", "worker", *node_name(options), *options]
    celery_command.main(args=arguments, prog_name="celery-runpod")


def node_name(options: Sequence[str]) -> list[str]:
    """The option for a node name of our own, unless one is given: a project's own worker on the same machine is called
    celery@host, and two of one name answer for each other in Flower and `celery inspect`."""
    given = any(option.split("=")[0] == "--hostname" or _SHORT_NAME.match(option) for option in options)
    return [] if given else ["-n", f"{NODE}@%h"]
