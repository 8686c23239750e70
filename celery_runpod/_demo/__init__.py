"""The demo's two programs: ``handler.py`` is what runs on RunPod, ``application.py`` is what a project writes.

Both are started by name, because what they import (RunPod's SDK, Pillow) belongs to other processes.
"""

from pathlib import Path

HANDLER = Path(__file__).with_name("handler.py")
APPLICATION = "celery_runpod._demo.application"
