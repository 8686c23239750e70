"""The job store, on fakeredis."""
