"""Requests and answers of RunPod's REST API, held to RunPod's own descriptions of it (descriptions.py)."""
