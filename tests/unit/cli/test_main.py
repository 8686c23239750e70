"""What is wrong is one sentence: a module that is not there, a setting, a number out of bounds."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from celery_runpod._cli import celery_commands
from celery_runpod._cli.main import COMMANDS, main, missing, packages_of
from celery_runpod.errors import MissingExtra
from tests.unit.test_repository import PYPROJECT

EXTRAS = sorted({extra for command in COMMANDS.values() for extra in command.extras.split(",")})


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_packages_of_an_extra_are_known(extra: str) -> None:
    named = {Requirement(line).name.lower() for line in PYPROJECT["project"]["optional-dependencies"][extra]}
    assert packages_of(extra) == {"PIL" if name == "pillow" else name.replace("-", "_") for name in named}


def test_a_package_of_the_extra_is_told_with_the_extra() -> None:
    assert isinstance(missing("worker", "pydantic_settings"), MissingExtra)
    assert "pip install 'celery-runpod[worker]'" in str(missing("worker", "pydantic_settings"))
    assert "needs the package 'rich'" in str(missing("jobs", "rich.console"))


@pytest.mark.parametrize(
    ("imports", "missing", "told"),
    [
        ("nosuch_mod", "nosuch_mod", "no module 'nosuch_mod' can be imported: RUNPOD_IMPORTS names it"),
        ("shop.tasks, my.tasks", "my", "no module 'my' can be imported: RUNPOD_IMPORTS names it"),
        ("mystery", "my", "no module 'my' can be imported"),
        ("", "pygments", "no module 'pygments' can be imported"),
    ],
)
def test_another_module_is_told_without_an_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], imports: str, missing: str, told: str
) -> None:
    def start() -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setenv("RUNPOD_IMPORTS", imports)
    monkeypatch.setattr(celery_commands, "import_service", start)
    assert refused(capsys, "worker") == f"celery-runpod: {told}"


@pytest.mark.parametrize("url", ["localhost:6379", "redis://localhost:port/0", "http://x"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs",),
        ("show", "one"),
        ("run", "sdxl"),
        ("cancel", "one"),
        ("watch", "one"),
        ("retry", "one"),
        ("health", "sdxl"),
        ("purge", "sdxl"),
        ("webhooks",),
    ],
    ids=" ".join,
)
def test_a_wrong_url_is_one_sentence_of_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], url: str
) -> None:
    for name in ("RUNPOD_BROKER_URL", "RUNPOD_RESULT_BACKEND"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDIS_URL", url)
    assert refused(capsys, *arguments).startswith("celery-runpod: REDIS_URL is not a URL that can be used")


@pytest.mark.parametrize("option", [("--port", "99999"), ("--port", "0"), ("--threads", "0")], ids=" ".join)
def test_webhooks_refuse_numbers_out_of_bounds(capsys: pytest.CaptureFixture[str], option: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["webhooks", *option])
    assert ended.value.code == 2
    assert option[0] in capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence of a command that failed."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    return sentence
