"""Starts and stops Redis, the simulator and workers on loopback: for `demo`, `dev` and the tests."""
