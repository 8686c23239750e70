"""RunPod's management API, both versions: pods, serverless endpoints, catalog, billing; two faces of one account.

Version 2 lies under `/v2` beside the job routes (docs.runpod.io/api-reference-v2), version 1 under `/v1`
(docs.runpod.io/api-reference). Nothing is rented: a pod is a life cycle with prices and log lines, without a container.
Not here: templates, network volumes, registries, clusters (any id of theirs is taken as it is given).

A request: ``front.py`` -> ``routes.py`` -> ``v2_*.py`` or ``v1_*.py``. Pure, with the time as an argument: ``pods.py``,
``deployments.py``, ``catalog.py``, ``billing.py``, ``bodies.py``, ``quotas.py``, and the faces themselves.

Next: ``front.py``.
"""
