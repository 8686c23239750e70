"""RunPod's own descriptions of its REST API (OpenAPI), and what they say of a request or an answer.

The files are RunPod's, not ours: `runpod-openapi-v1.json` and `runpod-openapi-v2.json`, in the folder that
RUNPOD_OPENAPI_DIR names. Without that variable the tests of this module are not collected (`conftest.py`).

    check_request("v2", "POST", "/v2/pods", {}, {"name": "a", "image": "b", "gpu": {"id": "NVIDIA L4"}})
    check_answer("v1", "DELETE", "/v1/pods/abc", 204, None)

A path is the one on the wire, from its first slash: `/v2/pods/abc`, `/v1/pods/abc`. What is not as described is a
`Violation`, which is an AssertionError.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

VERSIONS = ("v1", "v2")
# Read once, at import: other tests clear such variables while they run.
FOLDER = os.environ.get("RUNPOD_OPENAPI_DIR")


def _file(version: str) -> Path:
    return Path(FOLDER or "") / f"runpod-openapi-{version}.json"


class Violation(AssertionError):
    """A request or an answer is not as RunPod describes it."""


@dataclass(frozen=True)
class Operation:
    """One method of one path. `pointer` is its place in the description."""

    version: str
    method: str
    path: str
    pointer: str
    described: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]


@functools.cache
def description(version: str) -> dict[str, Any]:
    """The description of a version; OpenAPI 3.0 (v1) is rewritten to the JSON Schema that 3.1 (v2) has."""
    found: dict[str, Any] = json.loads(_file(version).read_text())
    if found["openapi"].startswith("3.0"):
        for path in found["paths"].values():
            for operation in path.values():
                if isinstance(operation, dict):
                    _close_body(found, operation)
        found = _modern(found)
    return found


def operations(version: str) -> list[Operation]:
    """All of them, with paths as on the wire."""
    return [
        _operation(version, template, method)
        for template, item in description(version)["paths"].items()
        for method in item
        if method in ("get", "post", "put", "patch", "delete")
    ]


def operation_of(version: str, method: str, path: str) -> Operation:
    """The operation of a request.

    Raises:
        Violation: there is none.
    """
    for template, item in description(version)["paths"].items():
        pattern = re.escape(_prefix(version) + template).replace(r"\{", "{").replace(r"\}", "}")
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", pattern), path):
            if method.lower() not in item:
                raise Violation(f"{version} has no {method} {path}; it has {', '.join(sorted(item))}")
            return _operation(version, template, method.lower())
    raise Violation(f"{version} has no path {path}")


def check_request(version: str, method: str, path: str, query: Mapping[str, str], body: Any) -> Operation:
    """Check a request: path, method, each parameter of the query, and the body (None: there is none).

    Raises:
        Violation: it is not as described.
    """
    operation = operation_of(version, method, path)
    known = {one["name"]: one for one in operation.parameters if one["in"] == "query"}
    for name, value in query.items():
        if name not in known:
            raise Violation(f"{method} {path} has no query parameter {name}; it has {', '.join(known) or 'none'}")
        schema = known[name]["schema"]
        _check(version, schema, _parsed(version, schema, value), f"{method} {path}?{name}")
    missing = [name for name, one in known.items() if one.get("required") and name not in query]
    if missing:
        raise Violation(f"{method} {path} needs the query parameters {', '.join(missing)}")
    wanted = operation.described.get("requestBody")
    if wanted is None:
        if body is not None:
            raise Violation(f"{method} {path} takes no body")
    elif body is not None:
        pointer = f"{operation.pointer}/requestBody/content/application~1json/schema"
        _check(version, {"$ref": f"#{pointer}"}, body, f"the body of {method} {path}")
    elif wanted.get("required"):
        raise Violation(f"{method} {path} needs a body")
    return operation


def check_answer(version: str, method: str, path: str, status: int, body: Any) -> Operation:
    """Check an answer: its status, and its body (None: there is none; a text: not JSON).

    A body is held to its schema where one is described. v1 describes none for its errors and its actions: there
    anything is allowed. A 204 has none.

    Raises:
        Violation: it is not as described.
    """
    operation = operation_of(version, method, path)
    answers = operation.described["responses"]
    described = answers.get(str(status), answers.get("default"))
    if described is None:
        raise Violation(f"{method} {path} does not answer {status}; it answers {', '.join(answers)}")
    pointer = f"{operation.pointer}/responses/{status if str(status) in answers else 'default'}"
    if "$ref" in described:
        pointer = described["$ref"].removeprefix("#")
        described = _at(version, described["$ref"])
    what = f"the body of the {status} of {method} {path}"
    content = described.get("content")
    if status == 204 and body is not None:
        raise Violation(f"{what}: there is none")
    if not content:
        return operation
    kind = next(iter(content))
    if body is None:
        raise Violation(f"{what} is missing")
    _check(version, {"$ref": f"#{pointer}/content/{_escaped(kind)}/schema"}, body, what)
    return operation


def examples(operation: Operation, status: int) -> list[Any]:
    """RunPod's own examples of the body of an answer."""
    content = operation.described["responses"].get(str(status), {}).get("content", {})
    return [one["value"] for kind in content.values() for one in kind.get("examples", {}).values()]


def _operation(version: str, template: str, method: str) -> Operation:
    item = description(version)["paths"][template]
    listed = [*item.get("parameters", ()), *item[method].get("parameters", ())]
    parameters = tuple(_at(version, one["$ref"]) if "$ref" in one else one for one in listed)
    path = _prefix(version) + template
    return Operation(version, method.upper(), path, f"/paths/{_escaped(template)}/{method}", item[method], parameters)


def _prefix(version: str) -> str:
    """The path of the server's URL: `/v1`; v2 has it in its paths."""
    return urlsplit(description(version)["servers"][0]["url"]).path.rstrip("/")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _at(version: str, reference: str) -> Any:
    found: Any = description(version)
    for name in reference.removeprefix("#/").split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


@functools.cache
def _registry(version: str) -> Registry[Any]:
    resource = DRAFT202012.create_resource(description(version))
    return Registry().with_resource(f"urn:runpod:{version}", resource)


def _check(version: str, schema: Mapping[str, Any], value: Any, what: str) -> None:
    absolute = json.loads(json.dumps(schema).replace('"$ref": "#/', f'"$ref": "urn:runpod:{version}#/'))
    validator = Draft202012Validator(absolute, registry=_registry(version), format_checker=FormatChecker())
    problems = sorted(validator.iter_errors(value), key=lambda one: one.json_path)
    if problems:
        raise Violation(f"{what}: " + "; ".join(f"{one.json_path}: {one.message[:300]}" for one in problems))


def _parsed(version: str, schema: Mapping[str, Any], value: str) -> Any:
    """A parameter's text as the type that is described."""
    while "$ref" in schema:
        schema = _at(version, schema["$ref"])
    match schema.get("type"):
        case "array":
            return value.split(",")
        case "boolean":
            return {"true": True, "false": False}.get(value, value)
        case "integer" if re.fullmatch(r"-?\d+", value):
            return int(value)
    return value


def _close_body(found: Mapping[str, Any], operation: Mapping[str, Any]) -> None:
    """v1 takes fields that it does not describe without a word: what we send must be described."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").removeprefix("#/components/schemas/")
    if name:
        found["components"]["schemas"][name]["additionalProperties"] = False


def _modern(node: Any) -> Any:
    """OpenAPI 3.0's `nullable` as a type of JSON Schema."""
    if isinstance(node, list):
        return [_modern(one) for one in node]
    if not isinstance(node, dict):
        return node
    renewed = {name: _modern(one) for name, one in node.items()}
    if renewed.pop("nullable", False) is True and "type" in renewed:
        renewed["type"] = [renewed["type"], "null"]
    return renewed
