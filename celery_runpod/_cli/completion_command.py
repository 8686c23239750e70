"""`completion`: prints the lines that make a shell complete the commands and options of celery-runpod."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "celery-runpod"
VARIABLE = "_CELERY_RUNPOD_COMPLETE"
"""Where click looks for what the shell asks; made from the program's name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete: eval "$(celery-runpod completion bash)"."""
    complete = get_completion_class(shell)
    assert complete is not None, "click knows the three"
    template, parts = complete.source_template, complete(ctx.find_root().command, {}, PROGRAM, VARIABLE).source_vars()
    click.echo(template % parts)
