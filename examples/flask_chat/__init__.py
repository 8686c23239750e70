"""A chat in Flask whose answers are streamed from a GPU: `python -m examples.flask_chat`."""
