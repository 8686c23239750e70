"""A Django application of the tests: pictures that are jobs, and an own worker (`celery -A tests.django_shop.worker`)."""
