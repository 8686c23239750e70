"""What every error of celery-runpod is made of: fields that are positional, in `args`, and safe in JSON.

Next: ``__init__.py``, the tree.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(eq=False)
class RunPodError(Exception):
    """Base of all errors raised by celery-runpod."""

    def __post_init__(self) -> None:
        self.args = tuple(getattr(self, field.name) for field in fields(self))


def about(**names: str | None) -> str:
    """` (endpoint sdxl, job 9f-u1)`: what an error is about; nothing where nothing is known.

    >>> about(endpoint="sdxl", task=None)
    ' (endpoint sdxl)'
    """
    known = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in names.items() if value)
    return f" ({known})" if known else ""
