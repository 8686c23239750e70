"""Stands for a language model: {"prompt": "a cat"} is answered word by word."""

import time

import runpod

ANSWER = (
    "You asked about {prompt}. A language model would answer here, word by word, from a GPU; this handler is a few lines "
    "of Python on your own machine, and what you see has come through RunPod's API, a Celery worker and Redis all the same."
)


def handler(job):
    for word in ANSWER.format(prompt=job["input"]["prompt"]).split():
        time.sleep(job["input"].get("seconds", 0.1))
        yield f"{word} "


runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
