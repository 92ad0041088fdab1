# Every target makes what it needs in .venv first; nothing is installed anywhere else.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-applications simulate mutants check format docs peers seams clean run-venv dev-venv apps-venv docs-venv
# Python keeps its bytecode in __pycache__ (make clean removes it), also where the environment says that it should not:
# without it, the tests take 5 s longer to collect, and each process that they start 0.2 s.
unexport PYTHONDONTWRITEBYTECODE

# Every public name has a type. (PYTHONPATH: an editable installation leaves a folder of data files in the place that pyright searches first.)
VERIFYTYPES = PATH="$(CURDIR)/.venv/bin:$$PATH" PYTHONPATH="$(CURDIR)" \
	.venv/bin/pyright --verifytypes llm_dispatcher --ignoreexternal

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run-venv:
	@sh scripts/venv.sh run

dev-venv:
	@sh scripts/venv.sh dev

apps-venv:
	@sh scripts/venv.sh apps

docs-venv:
	@sh scripts/venv.sh docs

demo: export DEMO_CONFIG = $(value CONFIG)
demo: export DEMO_PROMPT = $(value PROMPT)
demo: run-venv  ## see it work without a key; with CONFIG=my.yaml PROMPT="…" on your own vendors
	@set --; \
	if [ -n "$$DEMO_CONFIG" ]; then set -- "$$@" --config "$$DEMO_CONFIG"; fi; \
	if [ -n "$$DEMO_PROMPT" ]; then set -- "$$@" --prompt "$$DEMO_PROMPT"; fi; \
	.venv/bin/llm-dispatcher demo "$$@"

# Half of the fast tests by their time: both halves run side by side.
FIRST_HALF = tests/conversations tests/providers tests/dispatch tests/faults tests/config tests/cache tests/typing

test: dev-venv  ## the tests, without the slow ones
	@.venv/bin/python -m pytest -q -m "not slow" $(FIRST_HALF) & first=$$!; \
	.venv/bin/python -m pytest -q -m "not slow" $(addprefix --ignore=,$(FIRST_HALF)); second=$$?; \
	wait $$first && exit $$second

test-all: dev-venv  ## all tests; those of applications only where their frameworks are installed
	@.venv/bin/python -m pytest -q

test-applications: apps-venv  ## small applications in Django, Flask, Streamlit and others
	@.venv/bin/python -m pytest -q tests/applications

SEEDS ?= 1000

simulate: dev-venv  ## run the simulated scenarios under many seeds: SEEDS=20000
	@.venv/bin/python -m tests.simulation --seeds "$(SEEDS)"

mutants: dev-venv  ## break the source in one place at a time, and see whether the tests and the simulation notice
	@.venv/bin/python scripts/mutants.py

# Every test belongs to one of these two, so that .ci/run measures coverage and still runs each test once. Under coverage a
# test takes about twice the time. So slow tests are left out, except those that take branches which no other test takes.
coverage: dev-venv  ## the tests without most of the slow ones, and the branches that they take, with a floor
	@rm -f .coverage .coverage.*
	@.venv/bin/python -m coverage run -m pytest -q -m "not slow or measured"
	@.venv/bin/python scripts/coverage_floor.py

test-rest: dev-venv  ## the tests that `make coverage` leaves out
	@.venv/bin/python -m pytest -q -m "slow and not measured"

check: dev-venv  ## formatting, lint, types, import contracts
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/pyright
	@$(VERIFYTYPES) > .venv/verifytypes.log 2>&1 || { cat .venv/verifytypes.log; exit 1; }
	@grep "^Type completeness" .venv/verifytypes.log
	@.venv/bin/lint-imports

format: dev-venv  ## format and fix what can be fixed
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

docs: docs-venv  ## the documentation, in site/; a warning is an error
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict
	@echo "· the documentation is in site/index.html"

peers:  ## install the packages that benchmarks/fault_matrix.py compares with, in .peers
	@[ -x .peers/bin/python ] || $(firstword $(wildcard .venv/bin/python) python3) -m venv .peers
	@.peers/bin/python -m pip install --quiet --disable-pip-version-check litellm "pydantic-ai-slim[openai]" langchain-openai
	@echo "· now: .venv/bin/python benchmarks/fault_matrix.py"

ROWS ?=
TRIALS ?= 48

seams: dev-venv  ## break streams of real model servers, and see how they go on; makes .seams (5 GB), takes hours
	@.venv/bin/python -m benchmarks.seams --trials "$(TRIALS)" $(if $(ROWS),--rows $(ROWS))

clean:  ## remove generated files
	@rm -rf .venv .peers .seams .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* dist site
	@find . -name __pycache__ -type d -not -path "./.*/*" -prune -exec rm -rf {} +
