"""The worker's log obeys the worker's command line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.app.trace import LOG_RECEIVED, LOG_SUCCESS
from celery.signals import setup_logging

import celery_app.worker_app
from celery_app.logs import configure_logging
from config.settings import load_settings


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_loglevel_and_logfile_of_the_command_line_are_obeyed(root: logging.Logger, tmp_path: Path) -> None:
    celery_app.worker_app.create_app(load_settings({}))
    log = tmp_path / "worker.log"
    # As Celery sends it for `celery worker --loglevel ERROR --logfile worker.log`.
    setup_logging.send(sender=None, loglevel=logging.ERROR, logfile=str(log), format="", colorize=False)
    logging.getLogger("tasks").info("not.wanted")
    logging.getLogger("tasks").error("wanted", extra={"job_id": "job-1"})
    assert root.level == logging.ERROR
    assert log.read_text().count("\n") == 1
    assert "wanted" in log.read_text()
    assert "job-1" in log.read_text()


def test_without_a_file_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(True)
    logging.getLogger("tasks").info("seen")
    assert '"event": "seen"' in capsys.readouterr().err


def test_celerys_lines_on_the_messages_of_a_job_are_shown_at_debug_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def lines(level: int) -> str:
        configure_logging(False, level)
        for name in ("runpod.check_status[sdxl]", "runpod.run[sdxl]", "runpod.finish", "runpod.cancel", "shop.save"):
            context = {"id": "1", "name": name, "runtime": 0.01, "return_value": "None"}
            logging.getLogger("celery.worker.strategy").info(LOG_RECEIVED, context, extra={"data": context})
            logging.getLogger("celery.app.trace").info(LOG_SUCCESS, context, extra={"data": context})
            logging.getLogger("celery.app.trace").error("bad %(name)s", context, extra={"data": context})
        return capsys.readouterr().err

    shown = lines(logging.INFO)
    assert {line.rpartition("Task ")[2].split("[")[0] for line in shown.splitlines() if "Task" in line} == {
        "runpod.cancel",
        "shop.save",
    }
    assert shown.count("bad ") == 5
    assert lines(logging.DEBUG).count("Task ") == 10
    assert lines(logging.INFO).count("Task ") == 4
