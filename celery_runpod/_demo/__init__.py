"""The demo's two programs: ``handler.py`` is what runs on RunPod, ``application.py`` what a project writes."""
