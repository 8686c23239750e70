"""docker-compose.yml as Docker Compose reads it, for tests that run its commands without Docker."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent

ROLES = ("WORKER", "CALLER", "WEBHOOKS", "FLOWER")
GIVEN = {
    "REDIS_PASSWORD": "a-password-of-redis",
    **{f"REDIS_{role}_PASSWORD": f"a-password-of-the-{role.lower()}" for role in ROLES},
    "RUNPOD_API_KEY": "a-key",
    "RUNPOD_WEBHOOK_SECRET": "a-secret-that-signs-webhooks-0123456789",
    "FLOWER_BASIC_AUTH": "user:a-password-of-flower",
}
VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def filled(value: Any, given: Mapping[str, str]) -> Any:
    """As `docker compose` puts variables in: ${A}, ${A:-default}, ${A:?what to say}."""
    if isinstance(value, dict):
        return {name: filled(one, given) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, given) for one in value]
    if not isinstance(value, str):
        return value

    def one(match: re.Match[str]) -> str:
        name, how, text = match.groups()
        if given.get(name):
            return given[name]
        assert how == ":-", f"{name} is asked for: {text}"
        return text or ""

    return VARIABLE.sub(one, value)


def version_of(server: str) -> tuple[int, ...]:
    """Of a redis-server: `(7, 4)`."""
    text = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"v=(\d+)\.(\d+)", text)[0]))


def rights_for(server: str, words: list[str]) -> list[str]:
    """The words of Redis' command, in those that an older server knows: rights to read or to write alone, and selectors,
    came with Redis 7.0, `client|setinfo` with 7.2."""
    version = version_of(server)
    if version < (7, 2):
        words = [word for word in words if word != "+client|setinfo"]
    if version >= (7, 0):
        return words
    flat = [part for word in words for part in (word[1:-1].split() if word.startswith("(") else [word])]
    return [re.sub(r"^%[RW]~", "~", word) for word in flat]


def services() -> dict[str, Any]:
    """The services, with what `GIVEN` gives."""
    found: dict[str, Any] = filled(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"], GIVEN)
    return found


def password(user: str) -> str:
    """Of one of the Redis users."""
    return GIVEN[f"REDIS_{user.upper()}_PASSWORD"]
