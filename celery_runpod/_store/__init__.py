"""The job store: all that knows Redis. Start with ``states.py``; a web process imports ``reader.py`` alone."""
