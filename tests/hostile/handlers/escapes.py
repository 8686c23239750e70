"""A handler whose progress and error hold what a terminal or a reader of logs would obey: the text is the input's."""

import time

import runpod


def handler(job):
    runpod.serverless.progress_update(job, {"step": job["input"]["text"]})
    time.sleep(job["input"].get("seconds", 3))
    raise ValueError(job["input"]["text"])


runpod.serverless.start({"handler": handler})
