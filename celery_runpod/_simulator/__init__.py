"""A local RunPod: the operations of RunPod Serverless over HTTP, for development, tests and benchmarks.

Handler files run in real worker processes with RunPod's own SDK; synthetic endpoints need no process. The management
API (``management/``) shows and changes the same endpoints, and has pods that live and cost, without containers. Not
here: batches, templates, volumes, and anything that costs money.

A request: ``simulator_server.py`` -> ``job_routes.py`` (what RunPod's users call) or ``worker_protocol.py`` (what its
workers call) -> ``simulated_endpoint.py`` -> ``synthetic.py`` or ``worker_fleet.py``; or ``simulator_server.py`` ->
``management/management_http.py``. Pure, with the time as an argument: ``simulated_jobs.py``, ``job_queue.py``,
``faults.py``, ``request_rules.py``, ``endpoint_specs.py``.
"""
