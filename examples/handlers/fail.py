"""Goes wrong in the way that its input asks for: `how` is raise, error, exit or hang."""

import os
import time

import runpod


def handler(job):
    how = job["input"].get("how", "raise")
    if how == "raise":
        raise ValueError("asked to raise")
    if how == "error":
        return {"error": {"code": 7, "text": "asked to return an error"}}
    if how == "exit":
        os._exit(1)
    if how == "hang":
        time.sleep(3600)
    return {"how": how}


runpod.serverless.start({"handler": handler})
