"""The whole gallery with one command: `python run.py`. It needs neither RunPod nor a Redis of yours.

It starts `celery-runpod dev` (Redis, a local RunPod with the two handlers, a RunPod worker), the project's own worker and
its web server, each a process, and ends them at Ctrl-C. Database and pictures stay in `data/`.

    pip install 'celery-runpod[django,worker,simulator]'
    python run.py
"""

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
READY = "Ctrl-C stops everything."
"""The last line that `celery-runpod dev` prints when it is ready."""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description="Run the gallery.")
    parser.add_argument("--port", type=int, default=8000, help="of the web server")
    port = parser.parse_args().port
    redis = free_port()
    env = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{redis}/0", "DJANGO_DEBUG": "1", "PYTHONUNBUFFERED": "1"}
    processes = []

    def start(*command, **options):
        processes.append(subprocess.Popen(command, cwd=HERE, env=env, **options))
        return processes[-1]

    def interrupted(*_):
        raise KeyboardInterrupt

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, interrupted)
    python = sys.executable
    beside = Path(python).with_name("celery-runpod")
    command = str(beside) if beside.exists() else "celery-runpod"
    try:
        endpoints = [f"--endpoint={name}={HERE / 'handlers' / name}.py,workers=2,idle=60" for name in ("draw", "frame")]
        local = start(command, "dev", f"--redis-port={redis}", *endpoints, stdout=subprocess.PIPE, text=True)
        for line in local.stdout:
            print(line, end="")
            if line.strip() == READY:
                break
        else:
            sys.exit("celery-runpod dev did not start; its last lines say why")
        Path(env.get("GALLERY_DATA", HERE / "data")).mkdir(parents=True, exist_ok=True)
        subprocess.run([python, "manage.py", "migrate", "--verbosity=0"], cwd=HERE, env=env, check=True)
        password = secrets.token_urlsafe(9)
        name = f"admin-{secrets.token_hex(3)}"
        admin = {**env, "DJANGO_SUPERUSER_PASSWORD": password, "DJANGO_SUPERUSER_USERNAME": name}
        create = [python, "manage.py", "createsuperuser", "--noinput", "--email=", "--verbosity=0"]
        subprocess.run(create, cwd=HERE, env=admin, check=True)
        start(python, "-m", "celery", "-A", "project", "worker", "-n", "own@%h", "-c", "2", "--loglevel", "WARNING")
        start(python, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}", stderr=subprocess.DEVNULL)
        print(f"\nGallery  http://127.0.0.1:{port}/")
        print(f"Admin    http://127.0.0.1:{port}/admin/  {name} {password}", flush=True)
        while all(process.poll() is None for process in processes):
            time.sleep(0.5)
        sys.exit("one of the processes has ended")
    except KeyboardInterrupt:
        print("stopping")
    finally:
        for process in reversed(processes):
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()


if __name__ == "__main__":
    main()
