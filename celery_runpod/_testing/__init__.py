"""What `celery_runpod.testing` offers: fakes of endpoints, and local servers for tests over HTTP."""
