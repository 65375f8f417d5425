# Unlabeled. `make train` on a fresh machine needs only Python >= 3.10 and make.
#   make setup TORCH_INDEX=URL   takes torch and torchvision from another index (CPU-only builds, another CUDA)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup train evaluate test lint docs gallery sweep bench wheel lock clean

help:  ## these lines
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv and install the locked dependencies

# pip tells of each package where somebody watches; a log gets the steps alone
PIP := $(BIN)/python -m pip --disable-pip-version-check install $(shell test -t 2 || echo --quiet)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.10 is needed, not %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	@echo "Once: $(VENV) is made, and the locked dependencies go into it. This takes minutes."
ifdef TORCH_INDEX
	@echo "torch and torchvision come from $(TORCH_INDEX), unlocked; the rest as locked."
else
	@echo "On Linux about 3 GB are downloaded (torch with CUDA; 6 GB installed);"
	@echo "for a CPU-only torch (about 0.4 GB in all): make setup TORCH_INDEX=<address of PyTorch's cpu index>"
endif
	@echo "1 of 3: making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
ifdef TORCH_INDEX
	@echo "2 of 3: downloading and installing torch and torchvision, then the other dependencies"
	@$(PIP) --index-url $(TORCH_INDEX) "torch>=2.8" "torchvision>=0.23"
	@awk '/^[a-zA-Z]/ {keep = !/^(torch|torchvision|triton|nvidia[a-z0-9-]*|cuda[a-z-]*)==/} keep' requirements.lock > $(VENV)/rest.lock
	@$(PIP) --no-deps --require-hashes -r $(VENV)/rest.lock
else
	@echo "2 of 3: downloading and installing the packages of requirements.lock"
	@$(PIP) --require-hashes -r requirements.lock
endif
	@echo "3 of 3: installing Unlabeled itself"
	@$(PIP) --no-deps --editable .
	@touch $(STAMP)
	@echo "Ready."

train: $(STAMP)  ## a VAE on real digits, pictures in a minute; ARGS="model=... data=..." for another
	$(BIN)/python train.py $(ARGS)

evaluate: $(STAMP)  ## ARGS="checkpoint=RUN"
	$(BIN)/python evaluate.py $(ARGS)

test: $(STAMP)  ## the whole suite; ARGS="--most-expensive 10" tells what takes longest
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(STAMP)  ## linter, formatter and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## pages and API reference, from docs/ and the docstrings into build/docs
	rm -rf build/docs build/pages
	mkdir -p build/pages
	cp -r *.md docs build/pages
	mv build/pages/docs/index.md build/pages
	$(BIN)/python -m sphinx -q -W --keep-going -c docs build/pages build/docs
	@echo "Ready: build/docs/index.html"

gallery: $(STAMP)  ## the pictures of docs/gallery.md anew, by its commands; most of an hour
	$(BIN)/python docs/gallery.py

sweep: $(STAMP)  ## two methods, two seeds, one table
	$(BIN)/python train.py -m model=autoencoder,vae seed=0,1 budget.epochs=10 $(ARGS)

bench: $(STAMP)  ## speed, as ratios, in one table; ARGS="step views --quick"
	$(BIN)/python -m benchmarks $(ARGS)

wheel: $(STAMP)  ## dist/unlabeled-*.whl, which carries conf/
	@mkdir -p dist
	$(BIN)/python -c 'import hatchling.build as build; print("dist/" + build.build_wheel("dist"))'

lock:  ## write requirements.lock anew, without launchers (needs uv)
	uv pip compile pyproject.toml --extra tensorboard --extra dev --extra docs --universal --python-version 3.10 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --quiet --upgrade --output-file requirements.lock

clean:  ## remove what was built; runs (outputs/) and data (data/) stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
