"""The simulator's own routes, `/_simulator/...`: faults, jobs, counts of requests, reset. For tests; without a key.

Not here: anything that RunPod has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from celery_runpod._simulator import strict
from celery_runpod._simulator.answers import Refused, as_json
from celery_runpod._simulator.endpoint import Endpoint
from celery_runpod._simulator.faults import BadFault, Faults
from celery_runpod._simulator.gateway import Gateway

ROUTES = (
    "GET, POST, DELETE /_simulator/faults; DELETE /_simulator/faults/{id}; GET /_simulator/jobs; "
    "GET /_simulator/requests; POST /_simulator/reset"
)


class Inspection:
    """See the module."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        faults: Faults,
        gateway: Gateway,
        reset: Callable[[], None],
    ) -> None:
        self.endpoints = endpoints
        self.faults = faults
        self.gateway = gateway
        self.reset = reset

    async def handle(self, request: web.Request, path: Sequence[str]) -> web.Response:
        """Answer `/_simulator/` + path."""
        match (request.method, *path):
            case ("POST", "faults"):
                return as_json({"id": self._add(await request.read())})
            case ("GET", "faults"):
                return as_json([fault.described() for fault in self.faults.rules.values()])
            case ("DELETE", "faults"):
                self.faults.remove()
            case ("DELETE", "faults", fault_id):
                if not self.faults.remove(fault_id):
                    raise Refused(404, f"no fault {fault_id!r}")
            case ("GET", "jobs"):
                return as_json(self._jobs(request.query.get("endpoint")))
            case ("GET", "requests"):
                return as_json(self.gateway.counts)
            case ("POST", "reset"):
                self.reset()
            case _:
                raise Refused(404, f"not found; there is: {ROUTES}")
        return as_json({})

    def _add(self, raw: bytes) -> str:
        try:
            return self.faults.add(strict.loads(raw)).id
        except BadFault as error:
            raise Refused(400, str(error)) from None
        except ValueError:
            raise Refused(400, "the body is not JSON") from None

    def _jobs(self, name: str | None) -> list[dict[str, Any]]:
        if name is not None and name not in self.endpoints:
            raise Refused(404, f"no endpoint {name!r}; there is: {', '.join(self.endpoints) or 'none'}")
        found = [self.endpoints[name]] if name else list(self.endpoints.values())
        return [job for endpoint in found for job in endpoint.store.listing()]
