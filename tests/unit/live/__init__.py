"""Watching jobs."""
