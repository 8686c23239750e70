"""Measures and cuts JSON that is nested too deeply, without recursion.

A parser, a pickler and an encoder recurse once or twice for each level. How many levels they survive depends on the
version of Python, and one too many can end the process. So values are measured level by level, and text is measured
before it is parsed.

The depth is the number of lists and objects within each other: `1` has 0, `{"a": [1]}` has 2.

Not here: what else may stand in an input (``_payload.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Of an input, its fields, a previous result, an output and progress. No handler of RunPod's examples needs ten."""

AROUND = 8
"""How many levels RunPod's answers may have around an output (`{"stream": [{"output": ...}]}` has three). A text is cut
below `MAX_DEPTH + AROUND`, so that an output that was cut still measures as too deep."""

SHOWN_STEPS = 3
_HOLDERS = (dict, list, tuple)

# A string is one token, even without an end: its brackets do not count, and no character is read twice.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)


def too_deep(value: Any, name: str = "input", most: int = MAX_DEPTH) -> str | None:
    """The path of the first list or object that lies deeper than `most` levels, shortened; None where none does.

    >>> too_deep({"a": [[]]}, most=3) is None
    True
    >>> too_deep({"a": [[]]}, most=2)
    'input.a[0]'
    >>> too_deep({"a": [[[[[]]]]]}, most=4)
    'input.a[0][0]...'
    """
    level = _within([[value]])
    for _ in range(most):
        if not level:
            return None
        level = _within(level)
    return _path(value, name, most) if level else None


def _within(level: list[Any]) -> list[Any]:
    """The lists and objects directly within these. A shared one counts once: else the work could double with each
    level."""
    met: dict[int, Any] = {}
    for holder in level:
        parts = holder.values() if isinstance(holder, dict) else holder
        met |= {id(one): one for one in parts if isinstance(one, _HOLDERS)}
    return list(met.values())


def _path(value: Any, name: str, most: int) -> str:
    """The path of one list or object that is too deep."""
    level: list[tuple[Any, tuple[Any, ...]]] = [(value, ())]
    for depth in range(most):
        met: dict[int, tuple[Any, tuple[Any, ...]]] = {}
        for holder, steps in level:
            for key, one in holder.items() if isinstance(holder, dict) else enumerate(holder):
                if isinstance(one, _HOLDERS):
                    met.setdefault(id(one), (one, (*steps, key) if depth <= SHOWN_STEPS else steps))
        level = list(met.values())
    steps = level[0][1]
    return name + "".join(map(_step, steps[:SHOWN_STEPS])) + ("..." if len(steps) > SHOWN_STEPS else "")


def _step(key: Any) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    if isinstance(key, str) and key.isidentifier() and len(key) <= 40:
        return f".{key}"
    return f"[{str(key)[:40]!r}]"


def text_depth(text: str) -> int:
    """How deeply a JSON text is nested. For a text that is not JSON, at least the depth that a parser reaches before it
    fails."""
    depth = deepest = 0
    for token in _brackets(text):
        if token in "[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def is_deeper(text: str, most: int) -> bool:
    """Whether a JSON text is nested deeper than `most`. A text with at most `most` opening brackets is not scanned."""
    return text.count("[") + text.count("{") > most and text_depth(text) > most


def pruned(text: str, most: int, elements: int | None = None) -> str:
    """The JSON text with `null` in place of every list and object that lies deeper than `most` levels.

    With `elements`, only within that many first elements of the outermost list; they must be lists or objects.

    >>> pruned('[[1, [2, [3]]], {"a": "["}]', 2)
    '[[1, null], {"a": "["}]'
    >>> pruned('[[[1]], [[2]]]', 2, elements=1)
    '[[null], [[2]]]'
    """
    kept, depth, begins, cut_at, ended = [], 0, 0, 0, 0
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token[0] == '"':
            continue
        if token in "[{":
            depth += 1
            if depth == most + 1 and (elements is None or ended < elements):
                kept.append(text[begins : found.start()] + "null")
                cut_at = depth
        else:
            if cut_at and depth == cut_at:
                begins, cut_at = found.end(), 0
            depth -= 1
            if depth == 1:
                ended += 1
    return "".join(kept) + ("" if cut_at else text[begins:])


def loads(body: bytes | str, most: int = MAX_DEPTH + AROUND) -> Any:
    """A JSON text in UTF-8 as values; what lies deeper than `most` levels is None.

    Raises:
        ValueError: it is not JSON in UTF-8.
    """
    text = body if isinstance(body, str) else body.decode("utf-8-sig")
    return json.loads(pruned(text, most) if is_deeper(text, most) else text)


def _brackets(text: str) -> Iterator[str]:
    return (found[0] for found in _TOKEN.finditer(text) if found[0][0] != '"')
