# make setup | demo | test | lint | dev | lock | clean
# Needs Python >= 3.11, git and make. Where `uv` is missing, it is put into a virtual environment in this folder.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
export UV_NO_CONFIG := 1
export UV_LINK_MODE := copy

.PHONY: setup demo test lint dev lock clean

setup: $(VENV)/.complete

$(VENV)/.complete: requirements.lock pyproject.toml
	@python=""; \
	for candidate in $(PYTHON) python3.12 python3.11 python3.13 python3.14 python3 python; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "make setup: no Python >= 3.11 was found on the path; install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; fi; \
	uv="$$(command -v uv || true)"; \
	if [ -z "$$uv" ]; then \
	  if ! [ -x .uv/bin/uv ]; then \
	    "$$python" -m venv .uv || { echo "make setup: $$python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	    .uv/bin/python -m pip install --quiet --disable-pip-version-check uv; \
	  fi; \
	  uv=.uv/bin/uv; \
	fi; \
	if ! [ -x $(BIN)/python ]; then "$$uv" venv --quiet --python "$$("$$python" -c 'import sys; print(sys.executable)')" $(VENV); fi; \
	"$$uv" pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock; \
	"$$uv" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	touch $@

demo: setup
	$(BIN)/celery-runpod demo

dev: setup
	$(BIN)/celery-runpod dev

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The header names this command and nothing of the machine that ran it.
lock:
	@uv="$$(command -v uv || echo .uv/bin/uv)"; [ -x "$$uv" ] || uv=$(BIN)/uv; \
	"$$uv" pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	  --custom-compile-command "make lock" --python-version 3.11 --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .uv dist build demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
