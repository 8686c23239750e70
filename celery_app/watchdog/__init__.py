"""What finds and repeats that which no task will: lost calls, lost checks, a store that was restored."""
