"""Writes the pages that are made from the code, and completes the site's navigation; `make docs` runs it.

    python docs/build_hooks.py     # writes docs/settings.md, docs/commands.md and docs/reasons.md

The pages are in the repository, so that they can be read without the site. A test compares them with the code
(`tests/unit/test_docs_pages.py`). Not here: what a setting means, which stands under it in `config/settings.py`.
"""

from __future__ import annotations

import ast
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
HOW_TO, DECISIONS = "How to", "Decisions"
OTHER_VARIABLES = {
    "RUNPOD_API_KEY_<NAME>": "Further API keys, for `api_key_name`.",
    "RUNPOD_API_KEY_<NAME>_FILE": "A file with such a key; it is read again on each use.",
    "RUNPOD_ENDPOINT_<NAME>": "RunPod's endpoint id for a name.",
    "RUNPOD_ENDPOINT_<NAME>_API_KEY_NAMES": "The key names that calls of this endpoint may choose, with commas between.",
    "FLOWER_BASIC_AUTH": "`user:password` for `celery-runpod flower`, which does not start without it, or without "
    "`--auth-provider` and `--auth`.",
}
"""Variables that are no fields of `Settings`."""


def settings_page() -> str:
    """docs/settings.md."""
    from config.settings import Settings

    described = _descriptions()
    rows = ["| variable | default | allowed | what |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        names = field.validation_alias
        given = [names] if isinstance(names, str) else [str(one) for one in getattr(names, "choices", ())]
        variable = " or ".join(f"`{one}`" for one in given)
        rows.append(f"| {variable} | {_default(field)} | {_allowed(field)} | {described[name]} |")
    rows += [f"| `{name}` | none | | {what} |" for name, what in OTHER_VARIABLES.items()]
    return (
        "# Settings\n\n"
        "Environment variables of the RunPod worker and of the commands. Times are seconds.\n"
        "`celery-runpod doctor` shows what is set, with secrets masked, and reports a variable that it does not know.\n"
        "A web process needs a Celery app, or `REDIS_URL` alone.\n\n"
        "This page is made from `config/settings.py` by `docs/build_hooks.py`.\n\n" + "\n".join(rows) + "\n\n"
        "## Profiles\n\n"
        "A TOML file, which `RUNPOD_CONFIG` names, holds the settings of endpoints by name:\n\n"
        f"```toml\n{_profiles_example()}```\n"
    )


def _descriptions() -> dict[str, str]:
    """Name of a setting -> the text under it."""
    module = ast.parse((ROOT / "config/settings.py").read_text())
    (body,) = [one.body for one in module.body if isinstance(one, ast.ClassDef) and one.name == "Settings"]
    found = {}
    for one, following in pairwise(body):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(following, ast.Expr):
            text = ast.literal_eval(following.value)
            found[one.target.id] = " ".join(text.split())
    return found


def _profiles_example() -> str:
    from config import profiles

    text = (profiles.__doc__ or "").partition("\n\n    ")[2].partition("\n\n")[0]
    lines = text.splitlines()
    return "\n".join([lines[0].strip(), *(line.removeprefix("    ") for line in lines[1:])]) + "\n"


def _default(field: Any) -> str:
    value = field.default
    if field.default_factory is not None:
        return "`$XDG_STATE_HOME/celery-runpod`"
    if value is None or value == ():
        return "none"
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    return f"`{value:g}`" if isinstance(value, float) and value < 1e6 else f"`{value}`"


def _allowed(field: Any) -> str:
    if getattr(field.annotation, "__args__", ()) and all(isinstance(one, str) for one in field.annotation.__args__):
        return ", ".join(f"`{one}`" for one in field.annotation.__args__)
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    bounds = [
        f"{word} {getattr(bound, name):,g}"
        for bound in field.metadata
        for name, word in words.items()
        if getattr(bound, name, None) is not None
    ]
    return ", ".join(bounds)


def commands_page() -> str:
    """docs/commands.md: what `--help` says of each command."""
    import click

    from celery_runpod._cli.main import group

    parts = [
        "# Commands\n",
        "What `celery-runpod COMMAND --help` says. This page is made from the commands by `docs/build_hooks.py`.\n",
    ]
    settings = {"max_content_width": 100, **group.context_settings}
    context = click.Context(group, info_name="celery-runpod", **settings)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        parts.append(_command(command, click.Context(command, context, info_name=name, **settings), 2))
    return "\n".join(parts)


def _command(command: Any, context: Any, level: int) -> str:
    import click

    text = f"{'#' * level} `{context.command_path}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                text += "\n" + _command(inner, click.Context(inner, context, info_name=name), level + 1)
    return text


def reasons_page() -> str:
    """docs/reasons.md: every reason of a job that waits."""
    from celery_runpod._live.job_rows import REASONS

    rows = [f"| {reason} | {what} |" for reason, what in REASONS.items()]
    return (
        "# Why does a job wait?\n\n"
        "`JobResult.reason`, `celery-runpod show ID`, Flower and a watched page say it in one word.\n"
        "This page is made from `celery_runpod/_live/job_rows.py` by `docs/build_hooks.py`.\n\n"
        "| reason | what it means |\n|---|---|\n" + "\n".join(rows) + "\n"
    )


PAGES = {"settings.md": settings_page, "commands.md": commands_page, "reasons.md": reasons_page}


def write() -> None:
    """Write the pages that are made from the code, where they have changed."""
    sys.path.insert(0, str(ROOT))
    for name, page in PAGES.items():
        file, text = DOCS / name, page()
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def complete(nav: list[Any], pages: list[str]) -> None:
    """Add every page that the navigation does not name: a decision under its own heading, any other page to "How to"."""
    named = set(_named(nav))
    for part in nav:
        if isinstance(part, dict) and HOW_TO in part:
            part[HOW_TO] += [page for page in pages if page not in named and not page.startswith("decisions/")]
    nav.append({DECISIONS: [page for page in pages if page.startswith("decisions/")]})


def _named(part: Any) -> list[str]:
    if isinstance(part, str):
        return [part]
    return [name for one in (part.values() if isinstance(part, dict) else part) for name in _named(one)]


def on_config(config: Any, **_: Any) -> Any:
    """mkdocs: the configuration was read."""
    write()
    complete(config["nav"], sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")))
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs: a page was read. A drawing becomes a table: what draws it in a browser would come from another host."""
    return re.sub(r"^```mermaid\n(.*?)^```$", _table, markdown, flags=re.DOTALL | re.MULTILINE)


def _table(drawing: re.Match[str]) -> str:
    rooms: dict[str, list[str]] = {}
    for left, right in re.findall(r"^ *(\w+) --> (\w+)$", drawing[1], re.MULTILINE):
        rooms.setdefault(left, []).append(right)
    rows = [f"| {room} | {', '.join(others)} |" for room, others in rooms.items()]
    return "\n".join(["| room | imports |", "|---|---|", *rows])


if __name__ == "__main__":
    write()
