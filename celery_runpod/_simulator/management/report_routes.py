"""The catalog and the bill (docs.runpod.io/api-reference-v2/catalog and /billing).

Not here: prices (``catalog.py``), counting what ran (``billing.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_runpod._simulator.management import billing, catalog
from celery_runpod._simulator.management.billing import BadWindow, Window
from celery_runpod._simulator.management.route_table import Account, Call, Problem, Reply, Route, rfc3339

PRODUCTS = frozenset({"POD", "CLUSTER", "SERVERLESS"})


class ReportRoutes:
    def __init__(self, account: Account) -> None:
        self.account = account

    def routes(self) -> list[Route]:
        return [
            Route("GET", "catalog/gpus", "catalog.gpus", self.gpus),
            Route("GET", "catalog/gpus/*", "catalog.gpu", self.gpu),
            Route("GET", "billing/pods", "billing.pods", self.pods),
            Route("GET", "billing/serverless", "billing.serverless", self.serverless),
        ]

    def gpus(self, call: Call) -> Reply:
        stock = _stock(call.query)
        return Reply(200, {"gpus": [catalog.described_gpu(gpu, availability=stock) for gpu in catalog.GPUS.values()]})

    def gpu(self, call: Call) -> Reply:
        found = catalog.GPUS.get(call.ids[0])
        if found is None:
            raise Problem(404, "GPU type not found")
        return Reply(200, catalog.described_gpu(found, availability=_stock(call.query)))

    def pods(self, call: Call) -> Reply:
        window, pod_id = asked(call), call.query.get("podId")
        pods = [pod for pod in self.account.pods.all.values() if pod_id in (None, pod.id)]
        records = [
            {
                **_range(row.start, row.end),
                "podId": row.pod.id,
                **_amounts(row.compute, gpu=row.pod.spec.gpu is not None, disk=row.disk),
            }
            for row in billing.pod_costs(pods, window, call.now)
        ]
        totals = _totals(records, ("gpuAmount", "cpuAmount", "diskAmount"))
        unique = len({record["podId"] for record in records})
        query = {**_query(window), "podId": pod_id}
        return _bill(records, {"query": query, "uniquePodCount": unique, "totals": totals})

    def serverless(self, call: Call) -> Reply:
        window, endpoint_id = asked(call), call.query.get("serverlessId")
        rows = self.account.deployments.costs(window, call.now)
        records = [
            {
                **_range(row.start, row.end),
                "serverlessId": row.deployment.id,
                **_amounts(row.amount, gpu=row.deployment.gpu is not None, disk=0.0),
                "feeAmount": 0.0,
            }
            for row in rows
            if endpoint_id in (None, row.deployment.id)
        ]
        totals = _totals(records, ("gpuAmount", "cpuAmount", "diskAmount", "feeAmount"))
        unique = len({record["serverlessId"] for record in records})
        query = {**_query(window), "serverlessId": endpoint_id}
        return _bill(records, {"query": query, "uniqueServerlessCount": unique, "totals": totals})


def asked(call: Call) -> Window:
    """The window of a query; `Problem` 400 for one that cannot be."""
    query = call.query
    try:
        start, end = (billing.moment(query[name]) if name in query else None for name in ("startTime", "endTime"))
        last = int(query["lastN"]) if "lastN" in query else None
        return billing.window(call.now, query.get("bucketSize", "day"), start, end, last)
    except BadWindow as error:
        raise Problem(400, str(error)) from None
    except ValueError:
        raise Problem(422, "lastN: want integer") from None


def _range(start: float, end: float) -> dict[str, str]:
    return {"startTime": rfc3339(start), "endTime": rfc3339(end)}


def _query(window: Window) -> dict[str, Any]:
    return {**_range(window.start, window.end), "bucketSize": window.size}


def _amounts(compute: float, *, gpu: bool, disk: float) -> dict[str, float]:
    return {
        "totalAmount": compute + disk,
        "gpuAmount": compute if gpu else 0.0,
        "cpuAmount": 0.0 if gpu else compute,
        "diskAmount": disk,
    }


def _totals(records: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(sum(record[name] for record in records)) for name in ("totalAmount", *names)}


def _bill(records: list[dict[str, Any]], metadata: dict[str, Any]) -> Reply:
    return Reply(200, {"records": records, "metadata": {"recordCount": len(records), **metadata}})


def _stock(query: Mapping[str, str]) -> bool:
    """Whether stock was asked for; `Problem` for a question that RunPod refuses."""
    include, product = query.get("include"), query.get("product")
    if include is None:
        if product is not None:
            raise Problem(400, "product is valid only with include=AVAILABILITY")
        return False
    if include != "AVAILABILITY":
        raise Problem(422, "include: value must be one of AVAILABILITY")
    if product is None:
        raise Problem(400, "include=AVAILABILITY requires product")
    if not set(product.split(",")) <= PRODUCTS:
        raise Problem(422, f"product: values must be among {', '.join(sorted(PRODUCTS))}")
    return True
