"""What a terminal, a log or an error may show of values that others wrote.

Others are handlers (errors, progress, output), RunPod (names of pods and endpoints) and callers (labels, options). Their
control characters could move the cursor, set the clipboard, or forge a line of the log.

Not here: secrets, which `mask_url` and doctor's redactor remove.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
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


def shown_block(text: str) -> str:
    r"""As `shown`, but lines stay lines. Each but the first is indented, so that none looks like a line of its own."""
    return _UNSAFE.sub(_escaped, text).replace("\n", "\n  ")


def shown_json(value: Any) -> str:
    """JSON of several lines for a terminal and for programs: letters of every language stay, and control characters are
    escaped as JSON escapes them. What JSON does not know (dates, UUIDs) becomes a text."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def described(value: Any) -> Any:
    """A refused value as an error or a log may show it: a number itself, of anything else only type and size, because it
    may be an input or a secret that was given in the wrong place.

    >>> described("a text of somebody's"), described([1, 2]), described(0.5)
    ('<text of 20 characters>', '<list of 2>', 0.5)
    """
    if isinstance(value, bool | int | float) or value is None:
        return value if value is None or math.isfinite(value) else str(value)
    if isinstance(value, str):
        return f"<text of {len(value)} characters>"
    size = f" of {len(value)}" if isinstance(value, list | tuple | set | frozenset | Mapping) else ""
    return f"<{type(value).__name__}{size}>"


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
