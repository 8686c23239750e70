"""The worker's watchdog: it finds lost calls, lost checks, and a store that was restored."""
