"""What fakeredis is asked in a test: each command, and how much its answer holds.

Only what a client sends is seen, not what a script calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fakeredis._socket._base import BaseFakeSocket


class Asked:
    """The commands so far, by name; and the most members that one answer held."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        self.longest: dict[str, int] = {}

    @property
    def total(self) -> int:
        return sum(self.commands.values())


@contextmanager
def asked_of_redis() -> Iterator[Asked]:
    """Count what is asked within the block."""
    asked = Asked()
    process: Any = BaseFakeSocket._process_command

    def counted(socket: Any, fields: list[bytes]) -> None:
        name = fields[0].decode().upper() if fields else ""
        asked.commands[name] += 1
        before = socket.put_response

        def seen(answer: Any, *rest: Any) -> None:
            asked.longest[name] = max(asked.longest.get(name, 0), _members(answer))
            before(answer, *rest)

        socket.put_response = seen
        try:
            process(socket, fields)
        finally:
            del socket.put_response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseFakeSocket, "_process_command", counted)
        yield asked


def _members(answer: Any) -> int:
    if isinstance(answer, (list, tuple, set, dict)):
        return max(len(answer), max((_members(one) for one in answer), default=0))
    return 0
