"""What the REST client answers as plain JSON: for a message between processes, and for `--json`.

Environment variables of pods and endpoints are left out: they may be secrets.

Not here: reading RunPod's own JSON (``api/``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

SECRET_FIELDS = frozenset({"env"})


def plain(value: Any) -> Any:
    """Dataclasses, lists of them, times: as JSON has them."""
    if is_dataclass(value):
        names = [one.name for one in fields(value) if one.name not in SECRET_FIELDS]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.isoformat() if isinstance(value, datetime) else value
