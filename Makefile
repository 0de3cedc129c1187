# make app    install what the app needs and serve it
# make test   install what the tests need and run all of them
# make check  run the linter, the type checker and the pure unit tests
# make stage  run the full live-demo stress tests (over an hour; ARGS="load starts" chooses)
# make audit  check what is installed for known vulnerabilities
# All can be repeated at any time; the second time nothing is installed.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
BIN = $(VENV)/bin

.PHONY: app test check stage audit
app: $(VENV)/.app-installed
	$(BIN)/streamlit run app.py --server.port $(PORT) $(ARGS)

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -n 2 tests/unit tests/app $(ARGS)
	$(BIN)/python -m pytest tests/browser $(ARGS)

check: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 tests/unit $(ARGS)

stage: $(VENV)/.dev-installed
	$(BIN)/python -m tests.stage $(ARGS)

audit: $(VENV)/.dev-installed
	$(BIN)/python -m tests.audit

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.app-installed: requirements.txt | $(VENV)/.python
	$(BIN)/pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev-installed: requirements-dev.txt requirements-ray.txt requirements.txt | $(VENV)/.python
	$(BIN)/pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@
