# Everything starts from a bare python3: the first target that needs it makes .venv with plain pip.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo app docs test fuzz mutants lint tables clean

demo: .venv/installed
	$(BIN)/editproof demo --out outputs/demo

app: .venv/installed
	$(BIN)/editproof app

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir outputs/site

test: lint
	$(BIN)/python -m pytest -n auto

fuzz: .venv/installed
	nice $(BIN)/python tests/fuzz/run.py --seconds 3600

mutants: .venv/installed
	$(BIN)/python tests/mutants.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tables: .venv/installed
	$(BIN)/python benchmarks/tables.py

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist outputs .pytest_cache .mypy_cache .ruff_cache
