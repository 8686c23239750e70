"""Real Redis, real prefork workers, the simulator over HTTP, and the user's application in its own process."""
