"""Settings of the tests, as in many projects: Celery's eager mode."""

CELERY_TASK_ALWAYS_EAGER = True
CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
