"""Unit tests of the simulator's pure parts."""
