# Two commands on a fresh machine: `make audit` and `make test`. Everything they need is set up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: audit lab lab-check test check format golden docs bench fuzz clean help

help:
	@echo "make audit     audit the recording of the lab that comes along, and print the report"
	@echo "make lab       record the lab anew: real daemons in network namespaces (root; a minute)"
	@echo "make lab-check audit the lab's recording and hold the report against what the endpoints said"
	@echo "make test      run the tests"
	@echo "make check     formatter, linter, strict types, import contract, spelling and words"
	@echo "make golden    write the expected results of the reports anew (read their diff like code)"
	@echo "make docs      write the generated pages anew, and build the site into site/"
	@echo "make bench     measure beside tshark, nfstream and argus (minutes)"
	@echo "make fuzz      fuzz every way in, FUZZ_SECONDS=300 in all; the corpus grows in .fuzz"
	@echo "make clean     remove what was set up"

audit: $(VENV)/run.stamp
	@$(BIN)/auditor audit sample:lab --ca captures/sample/lab.ca.pem --fail-on never --allow-incomplete

lab: $(VENV)/dev.stamp
	@$(BIN)/python captures/lab/lab.py record
	@$(BIN)/python captures/lab/lab.py record --only story --out captures/sample
	@AUDITOR_GOLDEN=rewrite $(BIN)/python -m pytest -q tests/captures/test_lab.py -k walks
	@$(MAKE) --no-print-directory lab-check

lab-check: $(VENV)/dev.stamp
	@$(BIN)/python captures/lab/lab.py check
	@$(BIN)/python captures/lab/lab.py check captures/sample --quiet

test: $(VENV)/dev.stamp
	@./tests/system-packages
	@./tests/npm-packages $(VENV)/validators
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python docs/check_words.py

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: $(VENV)/dev.stamp
	AUDITOR_GOLDEN=rewrite $(BIN)/python -m pytest tests/report tests/captures/test_lab.py -k "report or walks"

docs: $(VENV)/dev.stamp
	$(BIN)/python docs/make_rules.py
	$(BIN)/python docs/make_paths.py
	$(BIN)/python docs/make_man.py
	$(BIN)/python captures/tls/confusion.py
	$(BIN)/python docs/make_verdicts.py
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_notebook.py
	AUDITOR_GOLDEN=rewrite $(BIN)/python -m pytest tests/report/test_docs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/dev.stamp
	$(BIN)/python bench/run.py --write

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),300) $(FUZZ_ARGS)

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); \
	  else echo "Python's venv is missing: install it with  sudo apt-get install python3-venv"; exit 1; fi; }
	@touch $@

$(VENV)/run.stamp: $(VENV)/made.stamp pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once, about a minute) ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[history]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/made.stamp pyproject.toml constraints.txt
	@echo "Setting up $(VENV) for development (once, about a minute) ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/run.stamp
