"""A RunPod handler that draws a picture from a text, and reports how far it is. A prompt with "fail" in it fails.

With `runpod` and Pillow in an image it runs on RunPod as it is.
"""

import base64
import hashlib
import io
import os
import time

import runpod
from PIL import Image, ImageDraw

SIZE, STEPS = 384, 10
STEP_S = float(os.environ.get("GALLERY_STEP_S", "0.4"))


def handler(job):
    prompt = job["input"]["prompt"]
    if "fail" in prompt:
        raise ValueError(f"no picture of {prompt!r} is possible")
    seed = hashlib.sha256(prompt.encode()).digest()
    image = Image.new("RGB", (SIZE, SIZE), tuple(200 + part % 56 for part in seed[:3]))
    canvas = ImageDraw.Draw(image, "RGBA")
    for step in range(STEPS):
        x, y, radius, *colour = (seed[(step * 3 + place) % 32] for place in range(6))
        x, y, radius = x * SIZE // 255, y * SIZE // 255, 24 + radius // 3
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*colour, 150))
        runpod.serverless.progress_update(job, {"step": step + 1, "of": STEPS, "text": "drawing"})
        time.sleep(STEP_S)
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"png": base64.b64encode(file.getvalue()).decode(), "prompt": prompt}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
