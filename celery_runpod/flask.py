"""The webhook for Flask: `app.register_blueprint(blueprint, url_prefix="/runpod/webhook")`.

`create_app` is a small application with nothing else: `celery-runpod webhooks` serves it for projects without Flask or
Django.

Not here: what is done with a webhook (``_webhooks/receive.py``).
"""

from __future__ import annotations

from flask import Blueprint, Flask, Response, jsonify, request

from celery_runpod._webhooks.receive import MOST_BYTES, receive

__all__ = ["blueprint", "create_app"]

blueprint = Blueprint("celery_runpod", __name__)


@blueprint.post("/", endpoint="webhook")
@blueprint.post("", endpoint="webhook_without_slash")
def _webhook() -> tuple[Response, int]:
    """RunPod's POST at a job's end."""
    # The application may limit its own forms to less than an output's size.
    request.max_content_length = MOST_BYTES + 1
    status, answer = receive(
        request.args.to_dict(), lambda size: request.stream.read(size), length=request.content_length
    )
    return jsonify(answer), status


def create_app() -> Flask:
    """An application that takes webhooks at /runpod/webhook, and says at /health that it is up."""
    app = Flask("celery_runpod")
    app.register_blueprint(blueprint, url_prefix="/runpod/webhook")

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app
