# make app   installs what the app needs and serves it
# make test  installs what the tests need and runs all of them
# make stage tries at full length what is promised of a live demo (an hour and more; ARGS="load starts" chooses)
# make audit asks for known vulnerabilities of what is installed
# All can be run again at any time; the second time nothing is installed.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
BIN = $(VENV)/bin

.PHONY: app test stage audit
app: $(VENV)/.app-installed
	$(BIN)/streamlit run app.py --server.port $(PORT) $(ARGS)

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -n 2 tests/unit tests/app $(ARGS)
	$(BIN)/python -m pytest tests/browser $(ARGS)

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
