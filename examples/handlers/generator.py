"""Streams words: {"text": "one two three", "seconds": 0.2}."""

import time

import runpod


def handler(job):
    for word in job["input"].get("text", "one two three").split():
        time.sleep(job["input"].get("seconds", 0.2))
        yield word


runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
