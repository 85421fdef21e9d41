# Every target makes the environment it needs, .venv, on a machine that has Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PORT ?= 8000
DATASET ?=
export EMBEDLLM_DATASET := $(or $(DATASET),$(EMBEDLLM_DATASET))

.PHONY: help book serve expected compare test test-fast fuzz lint test-portable check-wheel check-lowest bench record-solvers record-sgd notebooks figure lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile

book: $(READY) book/_config.yml book/_toc.yml ## execute the notebooks whose inputs changed and write book/_build/html (DATASET=name: on other data)
	@status=0; \
	$(BIN)/jupyter-book build book/ || status=1; \
	$(BIN)/python -m embedllm.book book/ || status=1; \
	exit $$status

# Jupyter Book 1 reads them there, and not every checkout has symbolic links.
book/%.yml: %.yml
	cp $< $@

# sphinx-autobuild needs the conf.py that Jupyter Book otherwise keeps in memory. It builds once at a time, and goes on
# serving when a build fails. What a build itself writes is not watched, or the build would start itself again.
serve: $(READY) ## show the book at http://127.0.0.1:8000, rebuild it when a source changes and reload the page
	$(BIN)/sphinx-autobuild book book/_build/html -d book/_build/.doctrees --host 127.0.0.1 --port $(PORT) \
	--pre-build '$(MAKE) -s book/_config.yml book/_toc.yml' --pre-build '$(BIN)/jupyter-book config sphinx book/' \
	--watch notebooks --watch embedllm --watch data \
	--re-ignore '/__pycache__|\.ipynb|/book/(_build|notebooks)/|/book/conf\.py$$|/data/cache/'

expected: $(READY) ## execute the notebooks whose inputs changed and record their values in data/expected (DATASET=name)
	$(BIN)/python -m embedllm.book.regression record

compare: $(READY) ## execute the notebooks whose inputs changed; exit 1 if a value is not as recorded (DATASET=name)
	$(BIN)/python -m embedllm.book.regression compare

# A thread for each of the two workers: threads that wait for each other on busy cores take many times longer.
test: $(READY) ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(READY) ## run the tests that take neither a book nor a whole notebook
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-portable: ## run these tests in the Python that is active, with the newest packages that it takes
	$(PYTHON) -m pip install --quiet --editable '.[book,test]'
	$(PYTHON) -m pytest -m 'not slow'

fuzz: $(READY) ## give thousands of damaged and hostile inputs to readers, checkpoints and the command line (10 minutes)
	$(BIN)/python -m pytest -n 2 --dist load tests/fuzz/fuzz_inputs.py

lint: $(READY) ## check style, types, imports between sub-packages, wording and workflows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/phrases.py
	$(BIN)/jactionlint --no-hints

check-wheel: ## install a wheel in an environment of its own and use the package there
	rm -rf build/wheel
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	build/wheel/bin/pip install --quiet --constraint requirements.lock build/wheel/*.whl
	cd build/wheel && bin/python -c 'import embedllm; [getattr(embedllm, name) for name in embedllm.__all__]; \
	print(embedllm.load_dataset("simulated", scale=0.1))'

check-lowest: ## run the fast tests with the lowest versions that pyproject.toml allows, in an environment of its own
	rm -rf build/lowest
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/pip install --quiet uv
	build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct -e '.[book,test]'
	build/lowest/bin/python -m pytest -n 2 --dist loadfile -m 'not slow' -W default

bench: $(READY) ## measure against plain implementations and record it in data/benchmarks.json (15 minutes)
	$(BIN)/python -m benchmarks --record

record-solvers: $(READY) ## compare SGD with the exact fit in data/solvers.json, on real answers too (1 hour)
	$(BIN)/python tools/record_solvers.py zeroeval mmlu-pro

record-sgd: $(READY) ## predict held-out benchmarks from SGD's embeddings in data/sgd_heldout.json; EMBEDLLM_POOLS as above (hours)
	$(BIN)/python tools/record_sgd.py zeroeval mmlu-pro simulated

notebooks: $(READY) ## bring notebooks/*.py and notebooks/*.ipynb in step, whichever was edited
	$(BIN)/python -m embedllm.book.notebooks

figure: book ## refresh the figure of the README from the executed notebook
	cp book/notebooks/figures/real_answers/real_answers-gains.png book/images/real-answers.png

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
