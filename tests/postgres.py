"""A PostgreSQL for one test module: its own cluster on loopback, with its own data; from Debian's packages."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from celery_runpod._devstack.stack import free_port, listens
from tests.waiting import eventually

USER = "shop"


def programs() -> Path | None:
    """The folder of initdb and postgres; None where they are not installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=Path()).parent.resolve() or None


def missing() -> str | None:
    """Why there can be no PostgreSQL here; None if there can."""
    folder = programs()
    if folder is None or not (folder / "initdb").exists() or not (folder / "postgres").exists():
        return "initdb and postgres are not installed (Debian, Ubuntu: apt install postgresql)"
    if os.geteuid() == 0 and _other_user() is None:
        return "postgres does not run as root, and there is no user `postgres` or `nobody`"
    return None


def _other_user() -> str | None:
    """A user to run it as, because PostgreSQL refuses root."""
    known = {one.pw_name for one in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


class Postgres:
    """One cluster, which asks for no password."""

    def __init__(self) -> None:
        folder = programs()
        assert folder is not None
        self._as = {"user": _other_user()} if os.geteuid() == 0 else {}
        # Not in pytest's folder, which another user may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="celery-runpod-pg-"))
        if self._as:
            shutil.chown(self._folder, self._as["user"])
        data, self.port = self._folder / "data", free_port()
        made = subprocess.run(
            [folder / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            **self._as,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        options = ["-c", f"unix_socket_directories={self._folder}", "-c", "listen_addresses=127.0.0.1", "-F"]
        self._log = (self._folder / "log").open("wb")
        self.process = subprocess.Popen(
            [folder / "postgres", "-D", data, "-p", str(self.port), *options],
            **self._as,
            cwd="/",
            stdout=self._log,
            stderr=self._log,
        )
        try:
            eventually(lambda: listens(self.port), True, within_s=60)
        except BaseException:
            self.stop()
            raise

    def settings(self, name: str = "postgres") -> dict[str, object]:
        """Django's settings of a database."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": USER,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
        }

    def stop(self) -> None:
        """End it at once, with the processes that it started."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
