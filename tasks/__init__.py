"""The tasks of the RunPod worker. Follow a job from ``run.py``."""
