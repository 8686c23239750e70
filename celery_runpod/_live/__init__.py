"""Watching jobs from any process: what a job's record and result say now, and each change of it."""
