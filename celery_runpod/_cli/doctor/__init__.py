"""The doctor: one module for each place where an installation can be wrong."""
