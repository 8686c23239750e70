"""An async handler: cancelling its job stops it inside its process."""

import asyncio

import runpod


async def handler(job):
    await asyncio.sleep(float(job["input"].get("seconds", 0.2)))
    return {"slept": job["input"].get("seconds", 0.2)}


runpod.serverless.start({"handler": handler})
