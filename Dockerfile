# One image for worker, webhooks, flower, simulator and the example application.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY celery_runpod celery_runpod
COPY celery_app celery_app
COPY tasks tasks
COPY config config
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 runpod
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /home/runpod/app
COPY --chown=runpod examples examples
USER runpod
CMD ["celery-runpod", "worker"]
