"""The job store: all that knows Redis. Start with ``states.py``, then ``store.py``."""
