"""Fails in the way that the input asks for: {"how": "raise" | "return" | "exit" | "hang"}, else answers "fine"."""

import os
import time

import runpod


def handler(job):
    how = job["input"].get("how")
    if how == "raise":
        raise ValueError("the input asked for an exception")
    if how == "return":
        return {"error": "the input asked for an error", "seen": job["input"]}
    if how == "exit":
        os._exit(job["input"].get("code", 1))
    if how == "hang":
        time.sleep(3600)
    return "fine"


runpod.serverless.start({"handler": handler})
