"""Runs the chat with all that it needs, on loopback: `python -m examples.flask_chat [port]`. Control-C ends all of it."""

from __future__ import annotations

import sys
from pathlib import Path

from celery_runpod.testing import local_worker
from examples.flask_chat.app import app, celery

HANDLER = Path(__file__).parents[1] / "handlers" / "chat.py"


def main(port: int) -> None:
    with local_worker(f"chat={HANDLER}", app=celery):
        print(f"the chat is at http://127.0.0.1:{port}/", flush=True)
        app.run(port=port, threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
