# The main commands: `make demo` (5 to 12 minutes on 2 cores after set-up) and `make test`.
# The first call creates .venv with the exact versions of constraints.txt; later calls reuse it.
# To use another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.stamp
BIN := $(VENV)/bin
REAL ?=
ALL := $(sort $(basename $(notdir $(wildcard notebooks/[0-9]*.ipynb))))
SUMMARY := 10_summary
# Notebooks whose arms are trained with three seeds: their result is within seed-to-seed variance of the aim of the recipe.
THRICE ?= 13_best
DEFAULT := 14_default_model
# Takes a day on one core, so it is started by hand: params/README.md.
SCALING := 15_scaling
NOTEBOOKS := $(filter-out $(SUMMARY) $(DEFAULT) $(SCALING),$(ALL)) $(filter $(SUMMARY),$(ALL))

.PHONY: demo test lint reports clean
.DELETE_ON_ERROR:

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) was not found; expected any Python from 3.11, as in: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: $(PYTHON) is Python %d.%d; expected any from 3.11, as in: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@# The two variables also pin the tools that compile pesq: old versions of pip read the first, new ones the second.
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	@# A git filter in this clone strips outputs from committed notebooks; a checkout without git needs no filter.
	@git config filter.notebook-outputs.clean \
		'if [ -x $(BIN)/python ]; then $(BIN)/python -m hifitse.report.strip; else cat; fi' 2>/dev/null || true
	touch $@

demo: $(STAMP)
	$(BIN)/hifitse run 00_baseline --preset demo-best
	@echo "The report: reports/mine/demo-best/00_baseline/report.html (open it in a browser; metrics.json and report.ipynb lie beside it)"

test: $(STAMP)
	@# Two processes with one thread each take little more than half the time of one process on two cores.
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

# Runs every notebook with the demo preset on the synthetic corpus, about four hours on 2 cores. Before that, it runs the best recipe alone
# and, if HIFITSE_DATA is set, the notebooks of REAL on its recordings: make reports REAL="00_baseline 04_augmentation". The summary reads
# all other reports, so it runs last. Only this target writes to reports/ itself; manual runs write to reports/mine/.
reports: export HIFITSE_REPORTS := $(CURDIR)/reports
reports: export HIFITSE_NAME :=
reports: $(STAMP)
	set -e; if [ -n "$$HIFITSE_DATA" ]; then for name in $(REAL); do \
		$(BIN)/hifitse run $$name --preset demo --overlay real; \
	done; fi
	$(BIN)/hifitse run 00_baseline --preset demo-best
	@# The model that comes with the library, on people, rooms and noises that were not in its training.
	if [ -n "$$HIFITSE_DATA" ]; then $(BIN)/hifitse run $(DEFAULT) --preset people; fi
	set -e; for name in $(NOTEBOOKS); do \
		case " $(THRICE) " in *" $$name "*) seeds="-p arm_seeds 3";; *) seeds="";; esac; \
		$(BIN)/hifitse run $$name --preset demo $$seeds; \
	done
	$(BIN)/hifitse gallery

# Removes the environment, tool caches and build files; keeps runs/ (trained weights) and reports/.
clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find hifitse tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
