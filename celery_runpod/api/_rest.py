"""One request of RunPod's REST API as a value, and how a version of that API words it.

    request_of      an operation of ``_operations.py``, in the words of a version
    ├── _restv2.py  nested bodies, lists under a name
    └── _restv1.py  flat bodies, bare lists

Pure: nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from celery_runpod.api._access import part_of
from celery_runpod.api._fields import listed, text
from celery_runpod.api._operations import Operation
from celery_runpod.errors import NotOffered

T = TypeVar("T")


def nothing(_: Any) -> None:
    """Reads the answer of an operation that has none."""


@dataclass(frozen=True)
class Request(Generic[T]):
    """A request, and how its answer is read.

    Args:
        operation: our name for it; part of every error.
        endpoint, pod_id: what it is about; part of every error.
        has_body: False where a success has no body, or none that is documented.
        body: not in the repr: `env` may hold secrets.
    """

    operation: str
    method: str
    path: str
    parse: Callable[[Any], T]
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    pod_id: str | None = None
    has_body: bool = True


@dataclass(frozen=True)
class Dialect:
    """How a version of RunPod's REST API words the operations.

    Args:
        name: "v2" or "v1".
        other: the other one, named where this one does not offer what is asked for.
        base_url: RunPod's own.
        lacks: the operations that it does not offer, each with what to do instead.
        calls: method and path, where they are not the operation's.
        bodies, queries: by operation: what makes the body or query from the arguments of `request_of`. Either raises
            NotOffered for a field that the version does not know.
        answers: by `Operation.answer`: what reads the answer.
    """

    name: str
    other: str
    base_url: str
    lacks: Mapping[str, str | None]
    bodies: Mapping[str, Callable[..., Mapping[str, Any]]]
    queries: Mapping[str, Callable[..., Mapping[str, str]]]
    answers: Mapping[str, Callable[[Any], Any]]
    calls: Mapping[str, str] = field(default_factory=dict)


def request_of(dialect: Dialect, operation: Operation[T], resource_id: str | None = None, *args: Any) -> Request[T]:
    """The request of an operation.

    Args:
        resource_id: id of the pod or endpoint; None where the operation has none, or a bill is for all.
        args: what the body or the query is made of.

    Raises:
        InvalidInput: an id that cannot be one.
        NotOffered: the version does not have the operation, or a field that is asked for.
    """
    if operation.name in dialect.lacks:
        raise NotOffered(operation.name, dialect.name, dialect.other, dialect.lacks[operation.name])
    about = operation.about
    method, path = dialect.calls.get(operation.name, operation.call).split()
    quoted = None
    if about is not None and (resource_id is not None or "{id}" in path):
        quoted = part_of(about, resource_id)
    if about is not None and "{id}" not in path:
        # The id of a bill stands in the query.
        args = (resource_id, *args)
    body, query = dialect.bodies.get(operation.name), dialect.queries.get(operation.name)
    parse = dialect.answers[operation.answer]
    return Request(
        operation=operation.name,
        method=method,
        path=path.format(id=quoted),
        parse=parse,
        body=None if body is None else body(*args),
        query={} if query is None else query(*args),
        endpoint=quoted if about == "endpoint" else None,
        pod_id=quoted if about == "pod" else None,
        has_body=parse is not nothing,
    )


def each(name: str, parse: Callable[[Mapping[str, Any]], T]) -> Callable[[Any], list[T]]:
    """Reads a list. Items without an id are left out: nothing can refer to them."""
    return lambda data: [parse(one) for one in listed(data, name) if text(one.get("id"))]


def rows(parse: Callable[[Mapping[str, Any]], T]) -> Callable[[Any], list[T]]:
    """How the records of a bill are read; they have no ids of their own."""
    return lambda data: [parse(one) for one in listed(data, "records")]


def given(**fields: Any) -> dict[str, Any]:
    """A body without what is None; sequences and mappings as JSON has them."""
    return {name: _plain(value) for name, value in fields.items() if value is not None}


def refuse(version: str, other: str, operation: str, spec: Any, lacking: Mapping[str, str | None]) -> None:
    """Raises NotOffered for the first field that is given and that the version does not know: `lacking` has these,
    each with what to do instead."""
    for name, instead in lacking.items():
        if getattr(spec, name) is not None:
            raise NotOffered(f"{operation}({name}=...)", version, other, instead)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
