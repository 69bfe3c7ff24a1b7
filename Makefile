# All targets work in .venv/ and install what they need. PYTHON picks the interpreter that makes it, the first of these that
# is there if nothing is said: make demo PYTHON=python3.12
PYTHON ?= $(shell for version in 3.11 3.12 3.13 3.14; do \
	python$$version -c '' 2> /dev/null && echo python$$version && exit; done; echo python3.11)
PIP = .venv/bin/python -m pip --disable-pip-version-check
FETCH_MODELS = .venv/bin/python -m signet_runtime.pose.models

OF_VERSION = -c 'import sys; print(*sys.version_info[:2], sep=".")'
SUPPORTED = 3.11 3.12 3.13 3.14

# pip would look for packages that there are none of, and name the first.
ifeq ($(wildcard .venv/bin/python),)
FOUND := $(shell $(PYTHON) $(OF_VERSION) 2> /dev/null)
ifeq ($(filter $(FOUND),$(SUPPORTED)),)
$(error SIGNET needs Python 3.11 to 3.14, and $(PYTHON) is $(if $(FOUND),$(FOUND),not there): \
install one of these, and say which by PYTHON=python3.12)
endif
endif

# An environment that another Python made would serve in place of the one that is asked for, and nobody would notice.
ifneq ($(origin PYTHON),file)
ifneq ($(wildcard .venv/bin/python),)
ASKED := $(shell $(PYTHON) $(OF_VERSION))
MADE := $(shell .venv/bin/python $(OF_VERSION))
ifneq ($(ASKED),$(MADE))
$(error .venv has Python $(MADE), and $(PYTHON) is Python $(ASKED): remove .venv first, or leave PYTHON out)
endif
endif
endif

.PHONY: demo docs tutorial test test-runtime test-train test-export test-pythons fuzz lint locks sbom audit wheel

demo: .venv/.installed
	.venv/bin/signet-translate examples/*.mp4
	@echo "expected:" && cat examples/expected.txt

# The commands of docs/tutorial.md, from twelve videos to a bundle.
tutorial: .venv/.installed-dev
	.venv/bin/python tests/tutorial.py

# The manual as a site, strictly, from docs/, the results and the docstrings: build/manual/site/index.html.
docs: .venv/.installed-dev
	.venv/bin/python -m manual

# Two processes, each of which takes up to 3 GB.
test: .venv/.installed-dev
	.venv/bin/python -m pytest -n 2 --dist worksteal

# One package's part of the suite, for the loop of a change.
test-runtime test-train test-export: test-%: .venv/.installed-dev
	.venv/bin/python -m pytest tests/$*

# A smoke test in every Python that is there; see the file. That of .venv has PyTorch, so it exports too.
test-pythons: .venv/.installed-dev
	.venv/bin/python tests/pythons.py .venv/bin/python

# Mutated files for every parser, three minutes at most; docs/trust.md has the long runs.
fuzz: .venv/.installed-dev
	.venv/bin/python -m tests.fuzz

lint: .venv/.installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy --platform win32 --cache-dir .mypy_cache/win32 signet_runtime signet_train export/signet_export
	.venv/bin/mypy --platform darwin --cache-dir .mypy_cache/darwin signet_runtime signet_train export/signet_export

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

# Supply chain: docs/supply-chain.md. The tools have an environment of their own, so that they change no version here.
TOOLS = .venv/tools/bin
COMPILE = $(TOOLS)/uv pip compile --quiet pyproject.toml --constraint constraints.txt --universal --python-version 3.11.5 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links

# constraints.txt with hashes, for Python 3.11 to 3.14 (of 3.11 from .5 on, for the manual): of a device or server, and of tests.
locks: .venv/.installed-tools
	$(COMPILE) --extra edge --extra hub --extra serve --output-file locks/edge.txt > /dev/null
	$(COMPILE) --extra dev --extra bench --output-file locks/dev.txt > /dev/null

sbom: .venv/.installed-tools
	mkdir -p dist
	for name in edge dev; do \
		$(TOOLS)/cyclonedx-py requirements locks/$$name.txt --pyproject pyproject.toml --output-reproducible \
			--output-file dist/sbom-$$name.json || exit; done

# Fails where the database of vulnerabilities cannot be reached, rather than finding nothing.
audit: .venv/.installed-tools
	for name in edge dev; do $(TOOLS)/pip-audit --strict --disable-pip --requirement locks/$$name.txt || exit; done

# The same bytes of the same commit, whoever builds it: from what is committed, with modes and times of nobody's.
wheel: .venv/bin/python
	umask 022 && rm -rf build/wheel && mkdir -p build/wheel dist && \
		git archive HEAD | tar -x --no-same-permissions -C build/wheel && \
		SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PIP) wheel --quiet --no-deps --wheel-dir dist ./build/wheel

.venv/.installed-tools: .venv/bin/python
	.venv/bin/python -m venv .venv/tools
	$(TOOLS)/python -m pip --disable-pip-version-check install --quiet 'uv>=0.9,<1' 'cyclonedx-bom>=7,<8' 'pip-audit>=2.9,<3'
	touch $@
