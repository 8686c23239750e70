"""The worker's settings and Celery's configuration. Start with ``settings.py``."""
