"""The job store: what a worker may do to a job's record, one script a transition. Start with ``states.py``."""

from tasks.store.store import JobStore

__all__ = ["JobStore"]
