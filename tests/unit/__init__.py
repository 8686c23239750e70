"""Needs nothing: no server, no network, no sleep."""
