"""How commands print: a rich table on a terminal, lines with tabs for other programs, JSON with `--json`.

Also the options that many commands share, and what they read from options. Not here: what is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from celery_runpod._escaping import shown
from celery_runpod._plain_json import answer_json

INTERRUPTED = 130
"""The exit status after Ctrl-C."""

json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")

Columns = Mapping[str, Callable[[Any], Any]]
"""Heading -> what a row has in that column."""


def echo(text: str, *, err: bool = False) -> None:
    """Print a line. Others may have written parts of it, so control characters are escaped."""
    click.echo(shown(text), err=err)


def print_json(value: Any) -> None:
    click.echo(json.dumps(answer_json(value), indent=2))


def cell(value: Any) -> str:
    """One value for people; `-` where there is none."""
    if value is None or value == "" or value == () or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def table_of(headings: Iterable[str], lines: Iterable[Iterable[str]]) -> Table:
    """A table of texts that others wrote: rich does not read them as its markup."""
    table = Table(*headings)
    for line in lines:
        table.add_row(*(Text(shown(one)) for one in line))
    return table


def print_rows(rows: Sequence[Any], columns: Columns, *, as_json: bool, none: str) -> None:
    """Print these rows as a table; without a row, the sentence `none`."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        echo(none)
        return
    lines = [[cell(look(row)) for look in columns.values()] for row in rows]
    if sys.stdout.isatty():
        Console().print(table_of(columns, lines))
        return
    for line in (list(columns), *lines):
        echo("\t".join(line))


def print_one(thing: Any, *, as_json: bool) -> None:
    """Print one thing: a line for each field that has a value."""
    if as_json:
        print_json(thing)
        return
    fields = answer_json(thing)
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        if value not in (None, "", [], {}):
            text = json.dumps(value) if isinstance(value, dict) else cell(value)
            echo(f"{name:<{width}}  {text}" if sys.stdout.isatty() else f"{name}\t{text}")


def say(text: str, data: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a sentence, or the same as JSON."""
    if as_json:
        print_json(data)
    else:
        echo(text)


def ask_first(question: str, yes: bool) -> None:
    """Go on with `--yes`, or if the user agrees at the prompt; else abort."""
    if not yes:
        click.confirm(question, default=False, abort=True, err=True)


def read_json(given: str, option: str) -> Any:
    """JSON from an option: the text itself, or `@` and a file."""
    where = option
    if given.startswith("@"):
        where = given[1:]
        try:
            given = Path(where).read_text()
        except (OSError, UnicodeDecodeError) as error:
            problem = getattr(error, "strerror", None) or "it is not text"
            raise click.BadParameter(f"{where} cannot be read: {problem}", param_hint=option) from None
    try:
        return json.loads(given)
    except ValueError as error:
        raise click.BadParameter(f"{where} is not JSON: {error}", param_hint=option) from None


def fields_from(
    spec: str | None, settings: Sequence[str], env: Sequence[str], named: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a spec: `--spec`, then `--set FIELD=JSON`, then the named options; a later one wins."""
    found = read_json(spec, "--spec") if spec else {}
    if not isinstance(found, dict):
        raise click.BadParameter("a JSON object of fields is needed", param_hint="--spec")
    for setting in settings:
        name, given, text = setting.partition("=")
        if not given:
            raise click.BadParameter(f"{setting!r}: FIELD=JSON is needed", param_hint="--set")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text  # a bare word is a text
    if env:
        if missing := [one for one in env if "=" not in one]:
            raise click.BadParameter(f"{missing[0].partition('=')[0]!r}: NAME=VALUE is needed", param_hint="--env")
        before = found.get("env") or {}
        if not isinstance(before, dict):
            raise click.BadParameter("env, as given before, is not an object of variables", param_hint="--env")
        found["env"] = {**before, **dict(one.split("=", 1) for one in env)}
    return {**found, **{name: _listed(value) for name, value in named.items() if value not in (None, ())}}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
