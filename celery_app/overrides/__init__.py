"""Where Celery, kombu and amqp are made to do what a parked job needs."""
