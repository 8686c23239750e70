"""Works on several jobs at once and can be cancelled in the middle: {"seconds": 1.0}."""

import asyncio

import runpod


async def handler(job):
    await asyncio.sleep(job["input"].get("seconds", 1.0))
    return {"slept": job["input"].get("seconds", 1.0)}


runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda current: 4})
