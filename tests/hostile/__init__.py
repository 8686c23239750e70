"""Attacks from outside against real processes: what comes in may be refused, and it stops, forges and pays nothing."""
