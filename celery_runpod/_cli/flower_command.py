"""`celery-runpod flower`: Flower for the broker of the RunPod workers, with all its options.

Not here: when it is refused, and its settings (`config/flower.py`).
"""

from __future__ import annotations

import click

from celery_runpod._cli.worker_command import import_service


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def flower(options: tuple[str, ...]) -> None:
    """Watch jobs and workers in a browser, with the password of FLOWER_BASIC_AUTH=user:password. On loopback, unless
    --address says otherwise."""
    import_service()
    from celery.bin.celery import celery as celery_command

    from config.flower import ask_password_for_metrics, flower_arguments

    arguments = flower_arguments(options)
    ask_password_for_metrics()
    celery_command.main(args=["-A", "celery_app", "flower", *arguments], prog_name="celery-runpod")
