"""`celery-runpod doctor`: what is wrong with this installation, in words, and what to do.

It reads the environment as the worker does, looks at Redis and RunPod, and changes nothing. Each check ends within
seconds, and no secret is shown. Not here: the checks (one module for each place where an installation can be wrong).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from celery_runpod._cli.doctor import replica_checks, runpod_checks, server_checks, settings_checks, store_checks
from celery_runpod._cli.doctor.app_checks import check_app
from celery_runpod._cli.doctor.findings import Finding, Level, Redactor, ok, wrong
from celery_runpod._cli.output import echo, print_json
from celery_runpod._cli.service_path import put_service_on_path
from celery_runpod._connect import ClientSettings
from celery_runpod._escaping import shown as escaped
from celery_runpod._redis_urls import has_replicas
from celery_runpod.errors import ConfigurationError

SIGNS = {Level.OK: "ok     ", Level.WARNING: "warning", Level.WRONG: "WRONG  "}
COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.WRONG: "red"}


@click.command()
@click.option("--app", "where", metavar="MODULE:NAME", help="Compare your Celery app with the worker's settings.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def doctor(where: str | None, as_json: bool) -> None:
    """Check settings, Redis and RunPod. Exit status 1 if anything is wrong; warnings do not count."""
    env = dict(os.environ)
    redact = Redactor(env, settings_checks.secrets_in_files(env))
    shown, found = examine(env, where)
    shown = {name: redact(value) for name, value in shown.items()}
    found = [Finding(redact(one.check), one.level, redact(one.found), redact(one.advice)) for one in found]
    failed = any(one.level is Level.WRONG for one in found)
    if as_json:
        print_json({"ok": not failed, "settings": shown, "findings": [vars(one) for one in found]})
    else:
        _print(shown, found)
    if failed:
        sys.exit(1)


def examine(env: dict[str, str], where: str | None) -> tuple[dict[str, str], list[Finding]]:
    """The settings, and all findings."""
    settings, shown, found = _settings(env)
    if settings is not None:
        urls = {"broker": settings.broker_url, "backend": settings.result_backend, "store": settings.store_url}
        expires_s = settings.result_expires_s
    else:
        # Redis can be looked at although another setting is wrong.
        try:
            client = ClientSettings.from_env({name: v for name, v in env.items() if name != "RUNPOD_NAMESPACE"})
        except ConfigurationError:
            return shown, found
        urls = {"broker": client.broker_url, "backend": client.result_backend, "store": client.store_url}
        expires_s = 86_400.0
    found += settings_checks.check_versions()
    reached = True
    for url, roles in _roles(urls).items():
        check = replica_checks.check_replicated if has_replicas(url) else server_checks.check_server
        of_server = check(", ".join(roles), url)
        found += of_server
        reached = reached and not ("store" in roles and of_server[0].level is Level.WRONG)
    if settings is not None:
        found += server_checks.check_consumers(settings.broker_url, settings.queues.all())
        if reached:
            found += store_checks.check_store(settings)
            found += store_checks.check_keys(settings)
        found += runpod_checks.check_runpod(settings, env)
        found += runpod_checks.check_management(settings, env)
        found += runpod_checks.check_clear_text(settings)
        found += runpod_checks.check_webhooks(settings)
    if where:
        found += check_app(where, broker=urls["broker"], backend=urls["backend"], result_expires_s=expires_s)
    return shown, found


def _roles(urls: dict[str, str]) -> dict[str, list[str]]:
    """URL -> what it is used for, so that one Redis is looked at once."""
    names = {"broker": "broker", "backend": "result backend", "store": "store"}
    roles: dict[str, list[str]] = {}
    for role, url in urls.items():
        roles.setdefault(url, []).append(names[role])
    return roles


def _settings(env: dict[str, str]) -> tuple[Any, dict[str, str], list[Finding]]:
    """The worker's settings, or None and all that is wrong with them."""
    put_service_on_path()
    from config.profiles import load_profiles
    from config.settings import load_settings

    found = settings_checks.check_names(env)
    try:
        settings = load_settings()
        shown = settings_checks.settings_shown(settings, env)
        return settings, shown, [*found, ok("settings", "all within their bounds")]
    except ConfigurationError as error:
        problems = str(error).removeprefix("wrong settings:").splitlines()
    # Wrong profiles are reported together with wrong variables.
    if config_file := env.get("RUNPOD_CONFIG"):
        try:
            load_profiles(Path(config_file))
        except ConfigurationError as error:
            problems += str(error).splitlines()
    unique = dict.fromkeys(problem.strip().replace("Value error, ", "") for problem in problems if problem.strip())
    advice = "see the page of settings (docs/settings.md)"
    return None, {}, [*found, *(wrong("settings", problem, advice) for problem in unique)]


def _print(shown: dict[str, str], found: list[Finding]) -> None:
    if shown:
        click.echo("Settings")
        width = max(len(name) for name in shown)
        for name, value in shown.items():
            echo(f"  {name:<{width}}  {value}")
        click.echo()
    click.echo("Checks")
    for one in found:
        sign = click.style(SIGNS[one.level], fg=COLOURS[one.level])
        click.echo(f"  {sign}  {escaped(f'{one.check}: {one.found}')}")
        if one.advice:
            echo(f"           -> {one.advice}")
    numbers = {level: sum(one.level is level for one in found) for level in Level}
    click.echo()
    echo(f"{numbers[Level.WRONG]} wrong, {numbers[Level.WARNING]} warnings, {numbers[Level.OK]} ok")
