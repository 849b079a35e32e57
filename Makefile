# Everything happens in .venv, which the first target to need it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: chat test cover check bench clean

chat: $(STAMP)
	@$(BIN)/blendin chat --pair demo

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal

# Branches that no test reaches; what child processes run counts too.
cover: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist worksteal
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# build is removed first: a module that was moved would be installed under both names.
check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@rm -rf build $(VENV)/typed && $(BIN)/python -m pip install -qq --no-deps --target $(VENV)/typed .
	MYPYPATH=$(VENV)/typed $(BIN)/mypy -p blendin_mlx -p blendin_models -p blendin_cli
	MYPYPATH=$(VENV)/typed:tests/helpers $(BIN)/mypy tests/helpers
	MYPYPATH=$(VENV)/typed:tests/helpers:benchmarks $(BIN)/mypy --config-file tests/mypy.ini tests

bench: $(STAMP)
	$(BIN)/python benchmarks/demo_pair.py

# pip says nothing while all is well: standard output belongs to the answer.
$(STAMP): pyproject.toml
	@test -d $(VENV) || { echo "making $(VENV) …" >&2; $(PYTHON) -m venv $(VENV); }
	@echo "installing …" >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade "pip>=25.1" >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable . --group dev >&2
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
