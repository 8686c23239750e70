# One image for worker, webhooks, Flower, simulator and the example application.
# requirements.lock gives versions and hashes (uv verifies the hashes of constraints too), pyproject.toml says which of
# them run here: compilers, linters and test tools of the lock stay out.
FROM python:3.12.12-slim AS build
WORKDIR /src
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /venv
COPY requirements.lock pyproject.toml ./
RUN uv pip install --no-cache --python /venv/bin/python --constraints requirements.lock \
    --extra worker --extra django --extra flask --extra simulator -r pyproject.toml
COPY README.md LICENSE ./
COPY celery_runpod celery_runpod
COPY celery_app celery_app
COPY tasks tasks
COPY config config
RUN uv pip install --no-cache --python /venv/bin/python --no-deps --build-constraints requirements.lock .

FROM python:3.12.12-slim
# The folder is the worker's to write: a volume that is mounted there takes its owner over.
RUN useradd --uid 10001 --create-home runpod && install --directory --owner runpod --group runpod /var/lib/celery-runpod
COPY --from=build /venv /venv
# glibc keeps freed memory for each of a worker's threads: 2.9 GB instead of 1.1 GB after 100 outputs of 20 MB.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2
WORKDIR /app
COPY examples examples
# It owns nothing of /app: code that can be reached from outside cannot be changed from outside.
USER runpod
CMD ["celery-runpod", "worker"]
