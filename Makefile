# make install:        the virtual environment alone
# make reproduce:      CNN2 on MNIST3 with 10 images per class: ten seeds, all methods, tables, figures
# make reproduce_vit:  the same with the small ViT that ships with the project, and LoRA
# make published:      the printed numbers of the paper's experiment 1, made in the released way
# make test:           the full test suite
# make check:          ruff and mypy
# make docs:           the documentation, into docs/_build; a warning is an error
# make test-slurm:     the same numbers from a SLURM cluster of two nodes on this host, with faults
# make test-report:    the report page in a real browser, which must be installed
# make faults:         kill -9, full disks, damaged files and the like, over all stages
# make fuzz:           100,000 damaged files and any command lines
# make benchmark:      the CNN's stages against the published algorithm, and FLOP/s
# make lock:           req.lock anew, from req.txt
# Each makes its own virtual environment from req.txt first. CORES=2 bounds reproduce's.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= all
BIN := .venv/bin

TOOLS := uv==0.13.9
SEED ?= 0

.PHONY: install reproduce reproduce_vit published test check docs test-slurm test-report faults fuzz benchmark lock
install: .venv/installed

reproduce reproduce_vit: .venv/installed
	$(BIN)/snakemake --cores $(CORES) $@
	@$(BIN)/python analysis/summary.py --experiment $(if $(filter %_vit,$@),vit_small,cnn2)_mnist3_10pc

published: .venv/installed
	$(BIN)/snakemake --cores $(CORES) $@

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slurm: .venv/installed-slurm
	PYTHON=$(BIN)/python tests/slurm/cluster.sh $(EXPERIMENT)

test-report: .venv/installed
	@command -v chromium chromedriver > /dev/null \
		|| { echo "error: the browser tests need: apt-get install chromium chromium-driver"; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/page/test_page_browser.py

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed
	rm -rf docs/_build docs/_generated
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet \
		docs docs/_build

faults: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -m "heavy or not heavy" \
		-n auto --dist loadfile -rP

fuzz: .venv/installed
	OMP_NUM_THREADS=1 FUZZ=100000 $(BIN)/python -m pytest tests/fuzz -s --hypothesis-seed=$(SEED)

lock: .lock/installed
	.lock/bin/uv pip compile req.txt --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet --output-file req.lock

.lock/installed: Makefile
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet --disable-pip-version-check $(TOOLS)
	@touch $@

benchmark: .venv/installed
	$(BIN)/python benchmarks/cnn_stages.py
	$(BIN)/python benchmarks/flops.py

.venv/installed-slurm: .venv/installed profiles/slurm/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r profiles/slurm/requirements.txt
	@touch $@

.venv/installed: req.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r req.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
