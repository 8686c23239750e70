"""Changes of Celery, kombu and amqp that parked jobs need."""
