"""`--endpoint`: what is understood, and the words for what is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from celery_runpod._simulator.endpoint_specs import SHAPE, Handler, Synthetic, parse
from celery_runpod.errors import ConfigurationError


def test_synthetic() -> None:
    found = parse(["a=synthetic", "b=synthetic:duration=2,jitter=0.5,delay=1,failures=0.1,output_bytes=9,workers=3"])
    assert found == [Synthetic("a"), Synthetic("b", 2.0, 0.5, 1.0, 0.1, 9, 3)]


def test_the_options_are_shown_with_their_defaults() -> None:
    shown = re.search(r"synthetic\[(:.*?)\]", SHAPE)
    assert shown is not None and parse([f"a=synthetic{shown[1]}"]) == [Synthetic("a")]


def test_handler(tmp_path: Path) -> None:
    path = tmp_path / "handler.py"
    path.touch()
    assert parse([f"sdxl={path}", f"b={path},workers=2,idle=1.5", "c=external"]) == [
        Handler("sdxl", path, 3, 5.0),
        Handler("b", path, 2, 1.5),
        Handler("c", None, 0),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sdxl", "endpoint 'sdxl': not understood; allowed: NAME=path/to/handler.py"),
        ("=synthetic", "not understood"),
        ("a/b=synthetic", "NAME of letters, digits"),
        ("sdxl=nowhere.py", "endpoint 'sdxl': there is no handler file 'nowhere.py'"),
        ("sdxl=synthetic:speed=1", "endpoint 'sdxl': option 'speed=1' given; allowed: duration=NUMBER"),
        ("sdxl=synthetic:duration", "option 'duration' given"),
        ("sdxl=synthetic:failures=2", "failures=2 given; allowed: a number from 0 to 1"),
        ("sdxl=synthetic:duration=-1", "duration=-1 given; allowed: a number from 0 up"),
        ("sdxl=synthetic:duration=nan", "duration=nan given"),
        ("sdxl=synthetic:duration=inf", "duration=inf given"),
        ("sdxl=synthetic:workers=1.5", "workers=1.5 given; allowed: a whole number"),
    ],
)
def test_a_mistake_is_told_with_the_thing_what_was_given_and_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse([text])
    assert words in str(caught.value)


def test_a_name_twice() -> None:
    with pytest.raises(ConfigurationError, match="'a' is given twice"):
        parse(["a=synthetic", "a=synthetic"])
