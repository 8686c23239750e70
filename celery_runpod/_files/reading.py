"""Reads a file of an output, wherever its content is: in the text itself, or behind its URL.

Not here: finding the files of an output (``finding.py``), HTTP (``fetching.py``).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, BinaryIO

from celery_runpod._files.encoded_text import data_url_content, decoded
from celery_runpod._files.fetching import Rules, fetch
from celery_runpod._files.finding import OutputFile, find, is_data_url
from celery_runpod.errors import FileRefused


def the_only_file(output: Any) -> OutputFile:
    """The one file of an output.

    Raises:
        FileRefused: it has none, or several.
    """
    found = find(output)
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(one.where for one in found[:5])
        raise FileRefused(f"it holds {len(found)} files ({places}): take one, or each of files.find(output)")
    raise FileRefused(f"{_shape(output)}: no file is known in it. Give the part that is one, as output['x']")


def write(found: OutputFile, into: BinaryIO, rules: Rules) -> None:
    """Write a file's content into an open file.

    Raises:
        FileRefused: it is no file, or over the rules. FileUnavailable: its server does not give it.
    """
    if found.url is not None:
        fetch(found.url, into, rules, found.where)
        return
    problem, content = None, b""
    try:
        content = data_url_content(found.text) if is_data_url(found.text) else decoded(found.text)
    except ValueError as error:
        problem = f"{error} ({len(found.text)} characters), nor an http(s) URL"
    if problem is None and len(content) > rules.limit_bytes:
        problem = f"it has {len(content) / 1e6:.1f} MB, over the limit of {rules.limit_bytes / 1e6:g} MB (limit_bytes)"
    if problem is not None:
        raise FileRefused(problem, found.where)
    into.write(content)


def save(found: OutputFile, path: Path, rules: Rules) -> None:
    """Write a file's content to a path: whole, or not at all. The folder must be there.

    Raises:
        FileRefused, FileUnavailable: as for `write`. OSError: the path cannot be written.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            write(found, file, rules)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _shape(output: Any) -> str:
    if isinstance(output, dict):
        return f"a dict with the fields {', '.join(map(str, list(output)[:10]))}" if output else "an empty dict"
    return f"a list of {len(output)}" if isinstance(output, list) else f"a {type(output).__name__}"
