"""gunicorn's settings for `celery-runpod webhooks`, with a reason beside each. Next: `celery_runpod/flask.py`."""

worker_class = "gthread"  # a request waits for Redis, not for the processor
threads = 8
timeout = 30  # longer than the slowest hand-over; a worker stuck for longer is replaced
graceful_timeout = 20  # a request under way is answered before the process ends
keepalive = 5
limit_request_line = 8190  # the URL carries the job's ids and a signature
accesslog = None  # it would write the signed URLs, which are capabilities
control_socket_disable = True  # nobody steers it from outside; two of them would fight for one socket
