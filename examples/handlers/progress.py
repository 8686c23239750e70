"""Tells how far it is while it works."""

import time

import runpod


def handler(job):
    steps = int(job["input"].get("steps", 3))
    for step in range(steps):
        runpod.serverless.progress_update(job, {"step": step + 1, "of": steps})
        time.sleep(float(job["input"].get("seconds", 0.2)))
    return {"steps": steps}


runpod.serverless.start({"handler": handler})
