"""Yields chunks, which /stream gives out as they come."""

import runpod


def handler(job):
    yield from (f"chunk {number}" for number in range(int(job["input"].get("chunks", 3))))


runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
