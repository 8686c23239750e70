"""Whether a body has the shape that RunPod's description asks for, in the words in which RunPod says so. Pure.

A shape is a JSON Schema, and the `jsonschema` package judges by it. Not here: rules between fields, which
RunPod checks afterwards with a 400 (``pod_routes.py`` and the others).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

Shape = Mapping[str, Any]

TEXT: Shape = {"type": "string"}
NAME: Shape = {"type": "string", "minLength": 1}
FLAG: Shape = {"type": "boolean"}
TEXTS: Shape = {"type": "array", "items": TEXT}
TEXT_MAP: Shape = {"type": "object", "additionalProperties": TEXT}
# Python's "$" would let a line break at the end pass; JSON Schema's does not.
CUDA: Shape = {"type": "string", "pattern": r"^\d+\.\d+$", "not": {"pattern": "\n"}}
CUDAS: Shape = {"type": "array", "items": CUDA}


def whole(minimum: int | None = None, maximum: int | None = None) -> Shape:
    """A whole number within bounds."""
    bounds = {"minimum": minimum, "maximum": maximum}
    return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}


def one_of(*words: str) -> Shape:
    return {"type": "string", "enum": list(words)}


def objects(properties: Mapping[str, Shape], *required: str, closed: bool = True) -> Shape:
    """An object. `closed`: other fields are refused."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": not closed}


def listed(items: Shape, *, least: int = 0, most: int | None = None) -> Shape:
    bounds = {"minItems": least} | ({} if most is None else {"maxItems": most})
    return {"type": "array", "items": items, **bounds}


def or_null(shape: Shape) -> Shape:
    return {**shape, "type": [shape["type"], "null"]}


def problems(value: Any, shape: Shape) -> list[str]:
    """What is wrong with a value, one text for each; values are not repeated, because bodies carry secrets."""
    found = [f"{_place(error)}: {problem}" for error in _errors(value, shape) for problem in _words(error)]
    return list(dict.fromkeys(found))


def _errors(value: Any, shape: Shape) -> list[ValidationError]:
    found = list(Draft202012Validator(shape).iter_errors(value))
    # A place whose type is wrong has no other faults worth a word.
    mistyped = {error.json_path for error in found if error.validator == "type"}
    return [error for error in found if error.validator == "type" or error.json_path not in mistyped]


def _place(error: ValidationError) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)


def _words(error: ValidationError) -> list[str]:
    """A fault in RunPod's words: `jsonschema` words it otherwise."""
    value, wanted = error.instance, error.validator_value
    match error.validator:
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else wanted
            return [f"got {_kind(value)}, want {' or '.join(kinds)}"]
        case "required":
            return [f"missing property '{name}'" for name in wanted if name not in value]
        case "additionalProperties":
            known = error.schema.get("properties", {})
            return [f"additional properties '{name}' not allowed" for name in value if name not in known]
        case "minItems" | "maxItems" as rule:
            return [f"{rule}: got {len(value)}, want {wanted}"]
        case "minimum" | "maximum" as rule:
            return [f"must be {'>=' if rule == 'minimum' else '<='} {wanted} but found {value}"]
        case "minLength" | "maxLength" as rule:
            return [f"length must be {'>=' if rule == 'minLength' else '<='} {wanted}"]
        case "enum":
            return [f"value must be one of {', '.join(repr(word) for word in wanted)}"]
        case "pattern":
            return [f"does not match pattern {wanted!r}"]
        case rule:
            return [f"does not satisfy {rule}"]


def _kind(value: Any) -> str:
    checker = Draft202012Validator.TYPE_CHECKER
    kinds = ("object", "array", "string", "integer", "number", "boolean", "null")
    return next(kind for kind in kinds if checker.is_type(value, kind))
