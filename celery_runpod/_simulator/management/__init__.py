"""RunPod's management API (REST v2): pods, serverless endpoints, catalog, billing.

It lies under `/v2` beside the job routes (docs.runpod.io/api-reference-v2). RunPod has retired version 1, and the
simulator does not serve it. Nothing is rented: a pod is a life cycle with prices and log lines, without a container.
Not here: templates, network volumes, registries, clusters (any id of theirs is taken as it is given).

A request: ``management_http.py`` -> ``route_table.py`` -> ``*_routes.py``. Pure, with the time as an argument:
``simulated_pods.py``, ``deployments.py``, ``catalog.py``, ``billing.py``, ``body_shapes.py``, ``quotas.py``.
"""
