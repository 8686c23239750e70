"""Flask: the webhook view, and the views of a page that watches a job.

`RunPod(app, may_see=...)` registers all of them. The webhook view alone: `app.register_blueprint(blueprint,
url_prefix="/runpod/webhook")`. `create_app` is a small application with nothing else: `celery-runpod webhooks` serves it
for projects without Flask or Django.

Not here: what is done with a webhook (``_webhooks/receive.py``); what a page is answered (``_live/job_pages.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery
from flask import Blueprint, Flask, Response, current_app, jsonify, request

from celery_runpod._connect import client_app
from celery_runpod._live import job_pages
from celery_runpod._live.job_pages import Answer
from celery_runpod._webhooks.receive import MOST_BYTES, receive
from celery_runpod.errors import InvalidOption, NotConfigured

__all__ = ["RunPod", "blueprint", "create_app", "jobs"]

_EXTENSION = "celery_runpod"

blueprint = Blueprint("celery_runpod", __name__)
jobs = Blueprint("celery_runpod_jobs", __name__, static_folder="django/static/celery_runpod", static_url_path="/static")


class RunPod:
    """Flask's extension: the webhook at `<prefix>/webhook`, a job's status at `<prefix>/job`, its events at
    `<prefix>/job/events`, the script at `<prefix>/static/celery_runpod.js`.

    Args:
        app: the Flask application; or call `init_app` later.
        may_see: `may_see(request, task_id)` says whether whoever asks may see a job: True or False; it may also call
            `flask.abort`. Without it everybody is refused. `@runpod.may_see` sets it too.
        celery: the Celery app whose results are read; by default the current one.
        url_prefix: where the views are.
        most_streams: how many streams of events a process serves at a time. Each occupies a thread of the server, so it
            must be less than its threads. 0: none; pages then ask for the status every few seconds.

    Raises:
        InvalidOption: `most_streams` is no whole number, or negative.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        may_see: Callable[..., Any] | None = None,
        celery: Celery | None = None,
        url_prefix: str = "/runpod",
        most_streams: int = job_pages.WSGI_STREAMS,
    ) -> None:
        if isinstance(most_streams, bool) or not isinstance(most_streams, int) or most_streams < 0:
            raise InvalidOption("most_streams", most_streams, "a whole number, 0 or more")
        self.celery = celery
        self.url_prefix = url_prefix.rstrip("/")
        self.most_streams = most_streams
        self._may_see = may_see
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Register the views in an application."""
        app.extensions[_EXTENSION] = self
        if blueprint.name not in app.blueprints:
            app.register_blueprint(blueprint, url_prefix=f"{self.url_prefix}/webhook")
        app.register_blueprint(jobs, url_prefix=self.url_prefix or None)

    def may_see(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Set who may see a job; a decorator."""
        self._may_see = hook
        return hook

    def _refusal(self, task_id: str) -> Answer | None:
        hook = self._may_see
        if hook is None:
            return job_pages.refusal(task_id, None)
        return job_pages.refusal(task_id, lambda asked: current_app.ensure_sync(hook)(request, asked))


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


@jobs.get("/job", endpoint="job")
def _job_status() -> Response:
    """How a job stands, as JSON; with `after` its chunks too."""
    runpod, task_id = _extension(), request.args.get("task", "")
    refused = runpod._refusal(task_id)
    return _response(refused or job_pages.status(task_id, runpod.celery, request.args.get("after")))


@jobs.get("/job/events", endpoint="job_events")
def _job_events() -> Response:
    """How a job stands, each change of it, and its chunks, as server-sent events."""
    runpod, task_id = _extension(), request.args.get("task", "")
    if (refused := runpod._refusal(task_id)) is not None:
        return _response(refused)
    last = request.headers.get("Last-Event-ID")
    if job_pages.ended_already(last):
        return _response(job_pages.ENDED_ALREADY)
    try:
        app = runpod.celery if runpod.celery is not None else client_app()
    except NotConfigured:
        return _response(job_pages.AWAY)
    stream = job_pages.wsgi_stream(task_id, last, app, runpod.most_streams, request.environ)
    if stream is None:
        return _response(job_pages.NO_PLACE)
    return Response(stream, headers=job_pages.EVENT_HEADERS)


def create_app() -> Flask:
    """An application that takes webhooks at /runpod/webhook, and says at /health that it is up."""
    app = Flask("celery_runpod")
    app.register_blueprint(blueprint, url_prefix="/runpod/webhook")

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _extension() -> RunPod:
    """That of the application; one that refuses everybody, where only the blueprint was registered."""
    found = current_app.extensions.get(_EXTENSION)
    return found if isinstance(found, RunPod) else RunPod()


def _response(answer: Answer) -> Response:
    response = Response(status=answer.status) if answer.body is None else jsonify(answer.body)
    response.status_code = answer.status
    response.headers.update(answer.headers)
    return response
