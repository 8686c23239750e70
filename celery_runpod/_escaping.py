"""Texts that others wrote, as a terminal and a log may show them: without control characters, which could move the
cursor, set the clipboard, or begin a log line that nobody logged.

Others are handlers (errors, progress, output), RunPod (names of pods and endpoints) and callers (labels). Not here:
secrets, which `mask_url` and doctor's redactor take out.
"""

from __future__ import annotations

import json
import re
from typing import Any

# C0 but tab, DEL, C1, line and paragraph separators, marks and embeddings that turn the direction, halves of surrogates.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNSAFE_IN_LINE = re.compile(f"[\n{_CONTROL}]")
_UNSAFE = re.compile(f"[{_CONTROL}]")


def shown(text: str) -> str:
    r"""The text on one line, its control characters as `\x1b` or `\u202e`; tabs stay.

    >>> shown("done\x1b[2J\nforged")
    'done\\x1b[2J\\x0aforged'
    """
    return _UNSAFE_IN_LINE.sub(_escaped, text)


def shown_block(text: str, indent: str = "  ") -> str:
    r"""As `shown`, but lines stay lines. Each but the first is indented, so that none looks like a line of its own."""
    return _UNSAFE.sub(_escaped, text).replace("\n", f"\n{indent}")


def shown_json(value: Any) -> str:
    """JSON of several lines for a terminal and for programs: letters of every language stay, and control characters are
    escaped as JSON escapes them. What JSON does not know (dates, UUIDs) becomes a text."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
