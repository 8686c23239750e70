"""celery-runpod: the command line. Thin commands; each says in one sentence which extra it lacks.

Not here: what the commands do. Each is loaded when it is called, so that `simulator` needs no worker and `worker` no
simulator.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from importlib.metadata import requires
from typing import Any, NamedTuple

import click

from celery_runpod._escaping import shown_block
from celery_runpod.errors import ConfigurationError, MissingExtra, RunPodError


class Command(NamedTuple):
    """The module of this package that defines a command under the command's name, and the extras that it needs."""

    module: str
    extras: str = "worker"


COMMANDS = {
    "billing": Command("account_commands"),
    "cancel": Command("job_commands"),
    "completion": Command("completion_command"),
    "demo": Command("demo_command", "worker,simulator"),
    "dev": Command("dev_command", "worker,simulator"),
    "doctor": Command("doctor.doctor_command"),
    "endpoints": Command("endpoint_commands"),
    "flower": Command("celery_commands"),
    "gpus": Command("account_commands"),
    "health": Command("worker_calls"),
    "jobs": Command("job_commands"),
    "pause": Command("worker_calls"),
    "pods": Command("pod_commands"),
    "purge": Command("worker_calls"),
    "resume": Command("worker_calls"),
    "retry": Command("worker_calls"),
    "run": Command("job_commands"),
    "show": Command("job_commands"),
    "simulator": Command("simulator_command", "simulator"),
    "watch": Command("worker_calls"),
    "webhooks": Command("webhooks_command", "flask"),
    "worker": Command("celery_commands"),
}
IMPORTED_AS = {"pillow": "PIL"}
"""Package -> what it is imported as, where that is another name."""


class Commands(click.Group):
    """Loads a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"celery_runpod._cli.{COMMANDS[cmd_name].module}")
        except ModuleNotFoundError as error:
            if str(error.name).startswith("celery_runpod"):
                raise
            if ctx.resilient_parsing:
                return click.Command(cmd_name)  # a shell that completes gets the name
            raise missing(cmd_name, str(error.name)) from None
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, also of the commands that cannot run here: it says what they lack."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except ConfigurationError:
                rows.append((name, f"(needs pip install 'celery-runpod[{COMMANDS[name].extras}]')"))
            else:
                rows.append((name, command.get_short_help_str(100) if command else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def packages_of(extras: str) -> set[str]:
    """What the packages of these extras are imported as, by this package's own metadata."""
    found = set()
    for line in requires("celery-runpod") or ():
        package, _, condition = line.partition(";")
        if any(f"extra == {quote}{extra}{quote}" in condition for extra in extras.split(",") for quote in "'\""):
            name = re.split(r"[^\w.-]", package.strip())[0].lower()
            found.add(IMPORTED_AS.get(name, name.replace("-", "_")))
    return found


def missing(command: str, module: str) -> ConfigurationError:
    """What to say of a module that is not there: which extra has it, or whether RUNPOD_IMPORTS names it."""
    package, extras = module.partition(".")[0], COMMANDS[command].extras
    if package in packages_of(extras):
        return MissingExtra(
            f'celery-runpod {command} needs the package {package!r} of the extra "{extras}": '
            f"pip install 'celery-runpod[{extras}]'"
        )
    imports = [given.strip() for given in os.environ.get("RUNPOD_IMPORTS", "").split(",")]
    named = any(f"{given}.".startswith(f"{module}.") for given in imports)
    return ConfigurationError(f"no module {module!r} can be imported" + (": RUNPOD_IMPORTS names it" if named else ""))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="celery-runpod")
def group() -> None:
    """A RunPod Serverless endpoint as a Celery task."""


def main(arguments: list[str] | None = None) -> Any:
    """The entry point: an error of celery-runpod is a sentence on standard error and exit status 1, not a traceback."""
    try:
        return group.main(args=arguments, prog_name="celery-runpod")
    except RunPodError as error:
        problem = error
    except ModuleNotFoundError as error:
        words = [word for word in (arguments or sys.argv[1:]) if word in COMMANDS]
        if not words or str(error.name).startswith("celery_runpod"):
            raise
        problem = missing(words[0], str(error.name))
    click.echo(shown_block(f"celery-runpod: {problem}"), err=True)
    return sys.exit(1)


if __name__ == "__main__":
    main()
