"""A RunPod handler that puts a frame around the picture of the job before it."""

import base64
import io
import os
import time

import runpod
from PIL import Image, ImageOps

STEP_S = float(os.environ.get("GALLERY_STEP_S", "0.4"))


def handler(job):
    image = Image.open(io.BytesIO(base64.b64decode(job["input"]["png"])))
    runpod.serverless.progress_update(job, "framing")
    time.sleep(3 * STEP_S)
    framed = ImageOps.expand(ImageOps.expand(image, 12, "white"), 6, "#2f6f6b")
    file = io.BytesIO()
    framed.save(file, "PNG")
    return {"png": base64.b64encode(file.getvalue()).decode()}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
