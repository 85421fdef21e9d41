# Every target makes the environment it needs, .venv, on a machine that has Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PORT ?= 8000

.PHONY: help book serve expected test lint bench notebooks figure lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile

book: $(READY) ## execute the stale notebooks and write book/_build/html
	@status=0; \
	$(BIN)/jupyter-book build book/ || status=1; \
	$(BIN)/python -m embedllm.book book/ || status=1; \
	exit $$status

# sphinx-autobuild needs the conf.py that Jupyter Book otherwise keeps in memory. It builds once at a time, and goes on
# serving when a build fails. What a build itself writes is not watched, or the build would start itself again.
serve: $(READY) ## show the book at http://127.0.0.1:8000, rebuild it when a source changes and reload the page
	$(BIN)/sphinx-autobuild book book/_build/html -d book/_build/.doctrees --host 127.0.0.1 --port $(PORT) \
	--pre-build '$(BIN)/jupyter-book config sphinx book/' \
	--watch notebooks --watch embedllm --watch data \
	--re-ignore '/__pycache__|\.ipynb|/book/(_build|notebooks)/|/book/conf\.py$$|/data/cache/'

expected: $(READY) ## execute the stale notebooks and record the tolerances of their numbers in data/expected
	$(BIN)/python -m embedllm.book.regression

test: $(READY) ## run the tests
	$(BIN)/python -m pytest

lint: $(READY) ## check style, types and workflows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/jactionlint --no-hints

bench: $(READY) ## measure against plain implementations and record it in data/benchmarks.json (a quarter of an hour)
	$(BIN)/python -m benchmarks --record

notebooks: $(READY) ## bring notebooks/*.py and notebooks/*.ipynb in step, whichever was edited
	$(BIN)/python -m embedllm.book.notebooks

figure: book ## refresh the figure of the README from the executed routing notebook
	cp book/notebooks/figures/routing/routing-routers.png book/images/routing.png

lock: $(READY) ## add what pyproject.toml newly asks for to .venv and write requirements.lock from it
	$(BIN)/pip install -e '.[book,test]'
	@{ echo '# Exact versions that were tested together, with Python 3.11 on Linux. Written by `make lock`, not by hand.'; \
	echo '# CUDA libraries are missing on purpose: the torch of each platform asks for its own.'; \
	$(BIN)/pip freeze --exclude-editable | sed -E '/^(cuda|nvidia|triton)/d; s/\+.*//'; } > requirements.lock
	@touch $(READY)

clean: ## remove what was built, but not .venv
	rm -rf book/_build book/notebooks book/conf.py build dist .mypy_cache .pytest_cache .ruff_cache

# torch comes first, alone and by its exact version, so that pip takes the build made for this machine.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	{ echo 'Python lacks its venv module: install it (on Debian and Ubuntu: apt-get install python3-venv)'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint requirements.lock "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@
