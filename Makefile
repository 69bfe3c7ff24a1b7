# All targets work in .venv/ and install what they need. PYTHON picks the interpreter: make demo PYTHON=python3.12
PYTHON ?= python3.11
PIP = .venv/bin/python -m pip --disable-pip-version-check
FETCH_MODELS = .venv/bin/python -m signet_runtime.pose.models

.PHONY: demo test test-runtime test-train test-export lint

demo: .venv/.installed
	.venv/bin/signet-translate examples/*.mp4
	@echo "expected:" && cat examples/expected.txt

test: .venv/.installed-dev
	.venv/bin/python -m pytest

# One package's part of the suite, for the loop of a change.
test-runtime test-train test-export: test-%: .venv/.installed-dev
	.venv/bin/python -m pytest tests/$*

lint: .venv/.installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable '.[edge]'
	$(FETCH_MODELS)
	touch $@

.venv/.installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	$(FETCH_MODELS)
	touch $@ .venv/.installed
