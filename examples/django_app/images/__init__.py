"""The application: a view that enqueues, a task that follows."""
