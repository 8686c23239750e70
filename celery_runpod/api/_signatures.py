"""Hides the signature in the URL of a webhook: whoever has the URL can call the webhook.

RunPod may repeat the URL in an answer, and libraries may log it, also inside another URL, which encodes it again.

Not here: making and checking the signature (`celery_runpod/_webhooks/` of the package above).
"""

from __future__ import annotations

import re

# A quote or a backslash ends the match, so that JSON stays JSON.
_SIGNATURE = re.compile(r"(signature(?:=|%(?:25)*3d))[^&\s\"'\\<>]+", re.IGNORECASE | re.ASCII)


def hide_signatures(text: str) -> str:
    """The text with `***` in place of each signature, however often its URL is encoded.

    >>> hide_signatures("https://example.org/?task=t&signature=0af3")
    'https://example.org/?task=t&signature=***'
    """
    return _SIGNATURE.sub(r"\1***", text)
