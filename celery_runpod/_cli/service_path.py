"""Where the worker application lies, and how commands import from it.

Its packages are called `celery_app`, `tasks` and `config`, as a web project's own often are. So they lie in a private
folder of the wheel, which is put on the path of a command's own process alone.
"""

from __future__ import annotations

import sys
from pathlib import Path


def service_root() -> Path:
    """The folder that holds `celery_app`, `tasks` and `config`: in the wheel a private one, else the checkout."""
    package = Path(__file__).resolve().parent.parent
    private = package / "_service"
    return private if private.is_dir() else package.parent


def put_service_on_path() -> None:
    """Let `celery_app`, `tasks` and `config` be imported, before any other packages of these names."""
    root = str(service_root())
    if sys.path[:1] != [root]:
        sys.path.insert(0, root)
