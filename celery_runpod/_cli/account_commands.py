"""`gpus`, `billing`: what RunPod rents out and for how much, and what was paid; with the API key of the shell."""

from __future__ import annotations

import click

from celery_runpod._cli.output import Columns, json_option, print_rows
from celery_runpod.api import BillingPeriod, ManagementClient
from celery_runpod.api._billing import BUCKETS

GPU_COLUMNS: Columns = {
    "id": lambda gpu: gpu.id,
    "GB": lambda gpu: gpu.memory_gb,
    "pool": lambda gpu: gpu.pool,
    "secure $/h": lambda gpu: gpu.secure_usd_per_hour,
    "community $/h": lambda gpu: gpu.community_usd_per_hour,
    "serverless $/h": lambda gpu: gpu.serverless_usd_per_hour,
    "free": lambda gpu: gpu.availability,
}
BILLING_COLUMNS: Columns = {
    "id": lambda row: row.resource_id,
    "from": lambda row: row.start and row.start.isoformat(),
    "$": lambda row: f"{row.amount_usd:.4f}",
    "GPU $": lambda row: row.gpu_usd,
    "CPU $": lambda row: row.cpu_usd,
    "disk $": lambda row: row.disk_usd,
    "billed s": lambda row: row.billed_s,
}


@click.command()
@click.option(
    "--for", "product", type=click.Choice(["POD", "SERVERLESS"], False), help="Also how many are free for it."
)
@json_option
def gpus(product: str | None, as_json: bool) -> None:
    """The types of GPUs, with list prices for one GPU and an hour (REST v2 only)."""
    found = ManagementClient().list_gpus(available_for=product.upper() if product else None)
    print_rows(found, GPU_COLUMNS, as_json=as_json, none="no GPU")


@click.command()
@click.argument("product", type=click.Choice(["pods", "endpoints"]))
@click.option("--id", "resource_id", metavar="ID", help="One pod or endpoint alone.")
@click.option("--bucket", type=click.Choice(BUCKETS), default="day", show_default=True, help="A row for each of these.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="So many of them up to now (REST v2 only).")
@json_option
def billing(product: str, resource_id: str | None, bucket: str, last: int | None, as_json: bool) -> None:
    """What pods or endpoints cost; by default each of the last 30 days."""
    management, period = ManagementClient(), BillingPeriod(bucket=bucket, last=last)
    ask = management.pod_billing if product == "pods" else management.endpoint_billing
    print_rows(ask(resource_id, period), BILLING_COLUMNS, as_json=as_json, none="nothing was paid")
