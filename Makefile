# make setup | demo | test | lint | docs | dev | lock | clean
# Needs Python >= 3.11, git and make. Where `uv` is missing, it is put into a virtual environment in this folder.
# Each recipe that is more than one command sets its own shell options: the make of macOS knows no .SHELLFLAGS.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# make setup PYTHON=/path/to/python3 takes that one. 3.11 and 3.12 come first: for them the lock brings a Redis server
# (Linux on x86-64). Each is tried by running it, because a name on the path may be a shim with nothing behind it.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python)
# make test PYTEST_ARGS="tests/unit -x"; make lock LOCK_ARGS=--upgrade
PYTEST_ARGS ?=
LOCK_ARGS ?=
export UV_LINK_MODE := copy

.PHONY: setup demo test lint docs dev lock clean

# The shell's first lines of an installation: $$uv, and a virtual environment that runs.
define PREPARE
set -euo pipefail; fail() { echo "make setup: $$*" >&2; exit 1; }; \
	runs() { "$$@" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print(sys.executable)' 2>/dev/null; }; \
	python=; for name in $(PYTHONS); do python="$$(runs "$$name")" && break || python=; done; \
	[ -n "$$python" ] || fail "no Python >= 3.11 that runs (tried: $(PYTHONS)). Install one, or name it: make setup PYTHON=/path/to/python3"; \
	echo "setting up $(VENV) with $$python"; \
	uv=uv; \
	if ! uv --version >/dev/null 2>&1; then \
	  uv=.uv/bin/uv; \
	  if ! .uv/bin/uv --version >/dev/null 2>&1; then \
	    rm -rf .uv; \
	    "$$python" -m venv .uv >/dev/null 2>&1 || { rm -rf .uv; fail "$$python cannot make a virtual environment (module venv or ensurepip is missing). On Debian and Ubuntu: apt install python3-venv"; }; \
	    .uv/bin/python -m pip install --quiet --quiet --disable-pip-version-check uv || fail "uv could not be installed into .uv: is the network there?"; \
	  fi; \
	fi; \
	runs $(BIN)/python >/dev/null || { rm -rf $(VENV); "$$uv" venv --quiet --python "$$python" $(VENV); }
endef

setup: $(VENV)/.complete

# What the demo and `make dev` need comes first: the tools of tests and lint are installed when one of these is run.
$(VENV)/.demo: requirements.lock pyproject.toml
	@$(PREPARE); \
	"$$uv" pip install --quiet --python $(BIN)/python --constraints requirements.lock hatchling; \
	"$$uv" pip install --quiet --python $(BIN)/python --constraints requirements.lock --no-build-isolation -e '.[worker,simulator]'; \
	touch $@

$(VENV)/.complete: requirements.lock pyproject.toml
	@$(PREPARE); \
	"$$uv" pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock; \
	"$$uv" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	touch $(VENV)/.demo $@

demo: $(VENV)/.demo
	$(BIN)/celery-runpod demo

dev: $(VENV)/.demo
	$(BIN)/celery-runpod dev

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/lint-imports

# Into site/. What builds the site is installed by this command alone, from a lock of its own.
docs: setup
	@set -euo pipefail; uv=uv; uv --version >/dev/null 2>&1 || uv=.uv/bin/uv; \
	"$$uv" pip install --quiet --python $(BIN)/python --require-hashes -r docs/requirements.lock
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The header names this command, and the lock nothing of the machine that ran it. Versions in it stay, unless asked.
lock: setup
	@set -euo pipefail; uv=uv; uv --version >/dev/null 2>&1 || uv=.uv/bin/uv; \
	lock() { "$$uv" pip compile --quiet --no-config --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command "make lock" --python-version 3.11 $(LOCK_ARGS) pyproject.toml "$$@"; }; \
	lock --extra dev -o requirements.lock; \
	lock --extra docs --constraints requirements.lock -o docs/requirements.lock

clean:
	rm -rf $(VENV) .uv dist build site demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
