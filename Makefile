# Every target works as the first command after a clone; the first one installs into .venv.

PYTHON ?= python3
JOBS ?= 0
WORKERS ?= 2
PORT ?= 8000
PAGE ?= book/intro.md

MAKEFLAGS += --no-print-directory
BIN := .venv/bin
VENV := $(BIN)/python
READY := .venv/ready
WORK = OMP_NUM_THREADS=1 $(VENV) -m pytest -n $(WORKERS)

.PHONY: help book test lint types pages pdf lab serve bench clean

help:  ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## /  make \1#/p' Makefile | tr '#' '\t'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else \
	"Python 3.11 to 3.13 is needed, this is %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	$(VENV) -m pip --version || $(PYTHON) -m venv --clear .venv
	$(VENV) -m pip install --constraint constraints.txt --editable '.[book,test,hardware]'
	touch $(READY)

pages: $(READY)  ## Execute the pages that are stale; JOBS=4 executes four at a time.
	$(VENV) -m pytest --nbmake book -v -n $(JOBS)

book: pages  ## Execute the stale pages and render the book to _build/html.
	$(VENV) tools/build_book.py

# Pages and tests share WORKERS processes of one thread each; a file goes to one of them, pages first.
# What reads the rendered book waits for it.
test: $(READY)  ## Lint, type-check, execute the stale pages, build strictly, run the tests.
	$(MAKE) -j2 lint types
	$(WORK) --nbmake book tests -m 'not slow and not book' --dist loadfile --no-loadscope-reorder
	$(VENV) tools/build_book.py --always
	$(WORK) tests -m 'book and not slow' --dist loadgroup

lint: $(READY)  ## Check form, style and the layers of the rooms.
	$(VENV) -m ruff format --check .
	$(VENV) -m ruff check .
	$(BIN)/lint-imports

types: $(READY)  ## Check the types.
	$(VENV) -m mypy

pdf: book  ## Print the book to _build/book.pdf; needs Chromium.
	$(VENV) tools/print_pdf.py

lab: $(READY)  ## Open PAGE (book/intro.md) in JupyterLab, every page as a notebook.
	@test -f '$(PAGE)' || { echo 'There is no $(PAGE); name a page like PAGE=book/status.md.'; exit 1; }
	$(VENV) -m jupytext_config --settings-file .venv/etc/jupyter/labconfig/default_setting_overrides.json set-default-viewer markdown myst
	$(VENV) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url='/lab/tree/$(PAGE)'

serve: book  ## Serve the rendered book at localhost, port PORT (8000).
	$(VENV) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

bench: $(READY)  ## Run every benchmark.
	@for script in $(wildcard benchmarks/*.py); do echo "$$script"; $(VENV) "$$script" || exit 1; done

clean:  ## Delete what was built and cached; .venv stays.
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
