"""Publishing: what happens to a call between `apply_async` and the broker."""
