"""Whether a body has the shape that RunPod's description asks for, in the words in which RunPod says so. Pure.

A shape is written with the few keywords of JSON Schema that these bodies need. Not here: rules between fields, which
RunPod checks afterwards with a 400 (``v2_pods.py`` and the others).

Next: ``pods.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

Shape = Mapping[str, Any]

KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}

TEXT: Shape = {"type": "string"}
NAME: Shape = {"type": "string", "minLength": 1}
FLAG: Shape = {"type": "boolean"}
TEXTS: Shape = {"type": "array", "items": TEXT}
TEXT_MAP: Shape = {"type": "object", "additionalProperties": TEXT}
CUDA: Shape = {"type": "string", "pattern": r"\d+\.\d+"}
CUDAS: Shape = {"type": "array", "items": CUDA}


def whole(minimum: int | None = None, maximum: int | None = None) -> Shape:
    """A whole number within bounds."""
    bounds = {"minimum": minimum, "maximum": maximum}
    return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}


def one_of(*words: str) -> Shape:
    return {"type": "string", "enum": words}


def objects(properties: Mapping[str, Shape], *required: str, closed: bool = True) -> Shape:
    """An object. `closed`: other fields are refused."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": not closed}


def listed(items: Shape, *, least: int = 0, most: float = math.inf) -> Shape:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def or_null(shape: Shape) -> Shape:
    return {**shape, "type": (shape["type"], "null")}


def problems(value: Any, shape: Shape, at: str = "$") -> list[str]:
    """What is wrong with a value, one text for each; values are not repeated, because bodies carry secrets."""
    kinds = (shape["type"],) if isinstance(shape["type"], str) else shape["type"]
    if not any(_is(value, kind) for kind in kinds):
        return [f"{at}: got {_kind(value)}, want {' or '.join(kinds)}"]
    if isinstance(value, dict):
        return _of_object(value, shape, at)
    if isinstance(value, list):
        return _of_list(value, shape, at)
    if isinstance(value, str):
        return _of_text(value, shape, at)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < shape.get("minimum", -math.inf):
            return [f"{at}: must be >= {shape['minimum']} but found {value}"]
        if value > shape.get("maximum", math.inf):
            return [f"{at}: must be <= {shape['maximum']} but found {value}"]
    return []


def _of_object(value: dict[str, Any], shape: Shape, at: str) -> list[str]:
    properties: Mapping[str, Shape] = shape.get("properties", {})
    others = shape.get("additionalProperties", True)
    found = [f"{at}: missing property '{name}'" for name in shape.get("required", ()) if name not in value]
    for name, item in value.items():
        if name in properties:
            found += problems(item, properties[name], f"{at}.{name}")
        elif isinstance(others, Mapping):
            found += problems(item, others, f"{at}.{name}")
        elif not others:
            found.append(f"{at}: additional properties '{name}' not allowed")
    return found


def _of_list(value: list[Any], shape: Shape, at: str) -> list[str]:
    if len(value) < shape.get("minItems", 0):
        return [f"{at}: minItems: got {len(value)}, want {shape['minItems']}"]
    if len(value) > shape.get("maxItems", math.inf):
        return [f"{at}: maxItems: got {len(value)}, want {shape['maxItems']}"]
    items: Shape | None = shape.get("items")
    if items is None:
        return []
    return [problem for number, item in enumerate(value) for problem in problems(item, items, f"{at}[{number}]")]


def _of_text(value: str, shape: Shape, at: str) -> list[str]:
    if "enum" in shape and value not in shape["enum"]:
        return [f"{at}: value must be one of {', '.join(repr(word) for word in shape['enum'])}"]
    if len(value) < shape.get("minLength", 0):
        return [f"{at}: length must be >= {shape['minLength']}"]
    if len(value) > shape.get("maxLength", math.inf):
        return [f"{at}: length must be <= {shape['maxLength']}"]
    if "pattern" in shape and not re.fullmatch(shape["pattern"], value):
        return [f"{at}: does not match pattern {shape['pattern']!r}"]
    return []


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, KINDS[kind])


def _kind(value: Any) -> str:
    return next(kind for kind in KINDS if _is(value, kind))
