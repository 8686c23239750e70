"""Reports its progress while it works: {"steps": 3, "seconds": 1.0}."""

import time

import runpod


def handler(job):
    steps = job["input"].get("steps", 3)
    for step in range(1, steps + 1):
        runpod.serverless.progress_update(job, {"step": step, "of": steps})
        time.sleep(job["input"].get("seconds", 1.0))
    return {"steps": steps}


runpod.serverless.start({"handler": handler})
