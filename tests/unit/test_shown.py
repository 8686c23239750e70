"""Control characters of remote texts: the one function, and the log and the commands that use it."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from celery.worker.consumer import consumer

from celery_app.logs import configure_logging
from celery_runpod._cli import output
from celery_runpod._cli.pod_commands import COLUMNS
from celery_runpod._escaping import shown, shown_block, shown_json
from celery_runpod.api import Pod

CONTROL = [
    *map(chr, (*range(9), *range(11, 32), *range(127, 160))),
    *"\u2028\u2029\u202a\u202e\u2066\u2069\u200f\ud800",
]
FORGED = "boom\n2026-11-28T00:00:00Z [info     ] job.ended job_id=forged\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\u202e"
CLI = Path(output.__file__).parent


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def clean(text: str) -> bool:
    return not any(char in text for char in CONTROL)


def test_each_control_character_is_written_in_letters() -> None:
    for char in CONTROL:
        for text in (shown(f"a{char}b"), shown_block(f"a{char}b"), shown_json({"a": char})):
            assert clean(text) and char not in text
        assert json.loads(shown_json({"a": char})) == {"a": char}
    assert (shown("a\x1bb"), shown("a\u202eb"), shown("a\nb"), shown("a\tb é猫")) == (
        "a\\x1bb", "a\\u202eb", "a\\x0ab", "a\tb é猫",
    )  # fmt: skip


def test_lines_of_a_block_are_indented() -> None:
    assert shown_block("Traceback:\nline\n") == "Traceback:\n  line\n  "


@pytest.mark.parametrize("where", ["event", "argument", "field", "exception"])
def test_no_remote_text_makes_a_line_of_the_log(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    configure_logging(False)
    log = logging.getLogger("tasks")
    if where == "event":
        log.info(FORGED)
    elif where == "argument":
        log.warning("raised: %s", FORGED)
    elif where == "field":
        log.warning("poll.failed", extra={"error": FORGED, "kept": [FORGED], "by": {"a": FORGED}})
    else:
        try:
            raise ValueError(FORGED)
        except ValueError:
            log.exception("task.requeued")
    text = capsys.readouterr().err
    assert clean(text.replace("\n", ""))
    first, *others = text.splitlines()
    assert "info" in first or "warning" in first or "error" in first
    assert all(line.startswith("  ") for line in others if line)
    assert (where == "exception") == bool(others)


def test_the_json_log_has_one_line_an_event(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(True)
    logging.getLogger("tasks").warning(FORGED, extra={"error": FORGED})
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and clean(text.rstrip("\n"))


@pytest.mark.parametrize("encoded", [0, 1, 2])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_signature_of_a_webhook_is_in_no_line_of_the_log(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], as_json: bool, encoded: int
) -> None:
    configure_logging(as_json, logging.DEBUG)
    url = f"https://example.org/runpod/webhook?endpoint=e&task=t&attempt=1&signature={'ab' * 32}"
    for _ in range(encoded):
        url = quote(url, safe="")
    logging.getLogger("another.library").debug('%s "POST %s" 200', "example.org", url)
    logging.getLogger("tasks").warning(
        "submit.rejected", extra={"error": f"bad webhook {url}", "body": {"webhook": url}}
    )
    try:
        raise ValueError(url)
    except ValueError:
        logging.getLogger("tasks").exception("failed")
    text = capsys.readouterr().err
    assert "abab" not in text and len(re.findall(r"signature\S{1,5}\*\*\*", text)) >= 4


@pytest.mark.parametrize(
    "message", ["UNKNOWN_FORMAT", "UNKNOWN_TASK_ERROR", "INVALID_TASK_ERROR", "MESSAGE_DECODE_ERROR"]
)
def test_celerys_lines_on_a_message_that_it_cannot_take_hold_no_input(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    configure_logging(False)
    text = getattr(consumer, message)
    # The first field says what is wrong, unless the message is the only one.
    fields = ["PATIENT"] if text.count("%") == 1 else ["why", *["PATIENT"] * 9][: text.count("%")]
    if message == "MESSAGE_DECODE_ERROR":
        fields = ["why", "json", "utf-8", "{}", "PATIENT"]
    consumer.logger.error(text, *fields)
    shown = capsys.readouterr().err
    assert "PATIENT" not in shown and "(the message is not shown)" in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_no_command_shows_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("COLUMNS", "400")
    pod = Pod("p1", FORGED, "RUNNING")
    output.print_rows([pod], COLUMNS, as_json=False, none="no pod")
    output.print_one(pod, as_json=False)
    output.say(f"pod {FORGED}", {"id": "p1"}, as_json=False)
    output.echo(FORGED)
    text = capsys.readouterr().out
    styles = re.compile("\x1b\\[[0-9;]*m") if terminal else re.compile("a^")  # rich's own
    assert clean(styles.sub("", text).replace("\n", ""))
    assert "\njob" not in text and "\n2026" not in text


def test_every_command_prints_through_the_one_function() -> None:
    """`click.echo` itself is for constant texts and JSON, which escapes by itself."""
    others: set[tuple[str, str]] = set()
    for file in CLI.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "click.echo") or file.name == "output.py":
                continue
            given = node.args[0] if node.args else ast.Constant("")
            if isinstance(given, ast.Constant) or ast.unparse(given).startswith(("json.dumps(", "shown")):
                continue
            others.add((file.name, ast.unparse(given).strip("f'\"")))
    assert others == {
        ("completion_command.py", "template % parts"),  # click's own script
        ("doctor_command.py", "  {sign}  {escaped(f'{one.check}: {one.found}')}"),  # a colour before it
        ("follow_job.py", "text"),  # of shown_block or shown_json
        ("simulator_command.py", "RunPod simulator ready at {address}"),
        ("webhooks_command.py", "webhooks ready at http://{host}:{port}/runpod/webhook"),
    }
