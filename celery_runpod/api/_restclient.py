"""RestClient: sends what a version of RunPod's REST API says, once, and reads the answer. The base of ManagementClient.

Not here: HTTP itself (``_transport.py``), the operations (``_management.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from celery_runpod.api._access import Key, rest_url_of, rest_version_of
from celery_runpod.api._answers import MAX_S, bounded
from celery_runpod.api._payload import encode
from celery_runpod.api._rest import Dialect, Request
from celery_runpod.api._restv1 import V1
from celery_runpod.api._restv2 import V2
from celery_runpod.api._transport import Transport
from celery_runpod.api._verdicts import Where
from celery_runpod.errors import BadAnswer

T = TypeVar("T")


class RestClient:
    """A session with RunPod's REST API. The arguments are ManagementClient's."""

    def __init__(
        self,
        api_key: str | Callable[[], str] | None = None,
        *,
        rest_version: str | None = None,
        base_url: str | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 30.0,
        total_timeout_s: float = 40.0,
        pool_size: int = 8,
        allow_http: bool | None = None,
    ) -> None:
        for name, value in (
            ("connect_timeout_s", connect_timeout_s),
            ("read_timeout_s", read_timeout_s),
            ("total_timeout_s", total_timeout_s),
        ):
            bounded(name, value, 0.001, MAX_S)
        self.rest_version = rest_version_of(rest_version)
        self._dialect: Dialect = V1 if self.rest_version == "v1" else V2
        self._http = Transport(
            Key(api_key),
            rest_url_of(base_url, self.rest_version, allow_http),
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            total_timeout_s=total_timeout_s,
            pool_size=pool_size,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rest_version={self.rest_version!r}, base_url={self._http.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of this process. The client can be used again; it then makes new ones."""
        self._http.close()

    def _send(self, request: Request[T], timeout_s: float | None = None) -> T:
        where, body = _where(request), request.body
        data = self._http.request(
            request.method,
            _path(request),
            where,
            body=None if body is None else encode(body, name="body"),
            timeout_s=timeout_s,
            has_body=request.has_body,
        )
        try:
            return request.parse(data)
        except BadAnswer as error:
            problem = error.message
        raise where.error(BadAnswer, problem, 200)

    def _stream(self, request: Request[Any], quiet_s: float, timeout_s: float) -> Iterator[str]:
        return self._http.lines(_path(request), _where(request), quiet_s=quiet_s, timeout_s=timeout_s)


def _where(request: Request[Any]) -> Where:
    return Where(request.operation, request.endpoint, pod_id=request.pod_id)


def _path(request: Request[Any]) -> str:
    return f"{request.path}?{urlencode(request.query)}" if request.query else request.path
