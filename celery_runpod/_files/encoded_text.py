"""Bytes as JSON text, and back: base64, and data URLs (RFC 2397).

Not here: which texts are files (``finding.py``).
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from celery_runpod._files.content_types import FIRST_BYTES

_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+={0,2}\s*")
_URL_SAFE = str.maketrans("-_", "+/")


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def encoded_size(size_bytes: int) -> int:
    """How long the base64 text of so many bytes is.

    >>> encoded_size(7_500_000)
    10000000
    """
    return (size_bytes + 2) // 3 * 4


def decoded(text: str) -> bytes:
    """The bytes of base64 text: of both alphabets, with or without line breaks and padding.

    Raises:
        ValueError: it is no base64.
    """
    packed = re.sub(r"\s+", "", text).translate(_URL_SAFE).rstrip("=")
    if not packed or len(packed) % 4 == 1:
        raise ValueError("the text is no base64")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the text is no base64") from None


def data_url_content(text: str) -> bytes:
    """The bytes of a data URL.

    Raises:
        ValueError: it has no comma, or its base64 is none.
    """
    head, comma, body = text.partition(",")
    if not comma:
        raise ValueError("the data URL has no content: its comma is missing")
    if head.rstrip().lower().endswith(";base64"):
        return decoded(unquote_to_bytes(body).decode("ascii", "replace") if "%" in body else body) if body else b""
    return unquote_to_bytes(body)


def begins_base64(text: str) -> bool:
    """Whether a text looks like base64, by its first thousand characters: the whole may have 20 MB."""
    return bool(_BASE64.fullmatch(text[:1000]))


def first_bytes(text: str) -> bytes:
    """The first bytes of what base64 text or a data URL holds; empty if it holds none."""
    body = text[:5000].partition(",")[2] if text[:5].lower() == "data:" else text
    try:
        return decoded(re.sub(r"\s+", "", body[:200])[: FIRST_BYTES // 3 * 4 + 4])
    except ValueError:
        return b""
