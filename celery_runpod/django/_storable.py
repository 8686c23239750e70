"""JSON as every database of Django's takes it.

PostgreSQL refuses U+0000, halves of surrogates and numbers that are not finite: the end of such a job could not be
saved.

Not here: JSON for messages (`celery_runpod/_plain_json.py`).
"""

from __future__ import annotations

import math
import re
from typing import Any

_REFUSED = re.compile("[\x00\ud800-\udfff]")


def storable(value: Any) -> Any:
    r"""The same value. What PostgreSQL refuses in a text becomes U+FFFD, and a number that is not finite becomes None.

    >>> storable({"a": ["x\x00", float("nan"), 1.5]})
    {'a': ['x\ufffd', None, 1.5]}
    """
    if isinstance(value, str):
        return _REFUSED.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(str(name)): storable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [storable(one) for one in value]
    return value
