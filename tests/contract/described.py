"""Holds a request or an answer to our own description of RunPod's management API (`operations.yaml`), and also to
RunPod's full one where `RUNPOD_OPENAPI_DIR` names it.

A path is the one on the wire, from its first slash: `/v2/pods/abc`. What is not as described is a `Violation`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from . import descriptions
from .descriptions import FOLDER, Violation

VERSIONS = ("v1", "v2")
TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "number": {"type": "number"},
    "whole": {"type": "integer"},
    "flag": {"type": "boolean"},
    "texts": {"type": "array", "items": {"type": "string"}},
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
    "any": {},
}


@functools.cache
def description() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "operations.yaml").read_text())
    return found


def schema(version: str, kind: Any, *, closed: bool) -> dict[str, Any]:
    """A type of the description as JSON Schema. `closed`: no field beyond those described."""
    if isinstance(kind, list):
        return {"type": "array", "items": schema(version, kind[0], closed=closed)}
    if isinstance(kind, Mapping):
        return {
            "type": "object",
            "properties": {name.rstrip("*"): schema(version, one, closed=closed) for name, one in kind.items()},
            "required": [name.rstrip("*") for name in kind if name.endswith("*")],
            "additionalProperties": not closed,
        }
    if kind.endswith("?"):
        return {"anyOf": [schema(version, kind[:-1], closed=closed), {"type": "null"}]}
    if kind.startswith("one of "):
        return {"enum": kind.removeprefix("one of ").split(", ")}
    return TYPES[kind] if kind in TYPES else schema(version, description()[version]["types"][kind], closed=closed)


def check_value(version: str, kind: Any, value: Any, what: str, *, closed: bool) -> None:
    """Raises Violation for a value that is not of a type of the description."""
    found = Draft202012Validator(schema(version, kind, closed=closed)).iter_errors(value)
    problems = [f"{one.json_path}: {one.message[:300]}" for one in found]
    if problems:
        raise Violation(f"{what}: " + "; ".join(problems))


def check_request(version: str, method: str, path: str, query: Mapping[str, str], body: Any) -> None:
    """Check a request: method and path, each parameter of the query, the body (None: there is none)."""
    operation = _operation(version, method, path)
    parsed = {name: _parsed(operation.get("query", {}).get(name), value) for name, value in query.items()}
    check_value(version, operation.get("query", {}), parsed, f"the query of {method} {path}", closed=True)
    if ("body" in operation) != (body is not None):
        raise Violation(f"{method} {path} {'needs a' if 'body' in operation else 'takes no'} body")
    if body is not None:
        check_value(version, operation["body"], body, f"the body of {method} {path}", closed=True)
    if FOLDER:
        descriptions.check_request(version, method, path, query, body)


def check_answer(version: str, method: str, path: str, status: int, body: Any) -> None:
    """Check the body of an answer (None: there is none) and, of a success, its status."""
    operation, what = _operation(version, method, path), f"the answer to {method} {path}"
    if status >= 400:
        check_value(version, "error", body, what, closed=False)
    elif status == 204:
        if body is not None:
            raise Violation(f"{what}: a 204 has no body")
    else:
        if status != operation.get("status", 200):
            raise Violation(f"{what}: {status} is not described")
        check_value(version, operation.get("answer", "any"), body, what, closed=False)
    if FOLDER:
        descriptions.check_answer(version, method, path, status, body)


def _operation(version: str, method: str, path: str) -> Mapping[str, Any]:
    for call, operation in description()[version]["operations"].items():
        if re.fullmatch(call.replace("{id}", "[^/]+"), f"{method} {path.removeprefix(f'/{version}/')}"):
            return dict(operation)
    raise Violation(f"{version} has no {method} {path}")


def _parsed(kind: Any, value: str) -> Any:
    if kind == "whole" and re.fullmatch(r"\d+", value):
        return int(value)
    return {"true": True, "false": False}.get(value, value) if kind == "flag" else value
