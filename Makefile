# Each target works from any directory (make -C), makes .venv first where it has to, and needs no network after that.
RUN       ?= run
CONFIG    ?= training_config
OVERRIDES ?=
MODEL     ?=
py         = .venv/bin/python
# names reach the programs as they are, whatever letters are in them; OVERRIDES is taken apart there, quotes and all
export RUN CONFIG MODEL
train evaluate: export NLBS_OVERRIDES := $(NLBS_OVERRIDES) $(OVERRIDES)

help:     ## this list
	@awk -F ' *## ' '/^[a-z-]+:.*##/ {sub(/:.*/, "", $$1); printf "make %-11s %s\n", $$1, $$2}' Makefile
setup:    ## .venv, as constraints.txt pins it
	@tools/setup.sh
demo: setup     ## the whole way on a digital phantom: archive, training, samples, metrics, report
	@$(py) tools/demo.py
quick: setup    ## a training run of seconds: does everything work here?
	@$(py) tools/notebook.py 05_train quick quick_config
train: setup    ## train: make train RUN=mine CONFIG=training_config OVERRIDES="data.archive='/path/to/an archive'"
	@$(py) tools/notebook.py 05_train "$$RUN" "$$CONFIG"
evaluate: setup ## metrics and report of a run: make evaluate RUN=mine OVERRIDES="evaluation.samples=500"
	@$(py) tools/notebook.py 07_evaluate "$$RUN"
test: setup     ## every notebook and every test, without the cells and tests marked slow (minutes each)
	@$(py) tools/test.py
test-all: setup ## those too
	@$(py) tools/test.py --slow
bench: setup    ## speed and quality beside other libraries: hours, most of it the quality table
	@$(py) tools/bench.py full
bench-quick: setup ## the same in minutes, before and after a change
	@$(py) tools/bench.py quick
accelerator: setup ## what works on this machine's GPU, and how near to its limit: at most eight minutes
	@.venv/bin/nlbs_accelerator $${OUT:-results/accelerator}
explore: setup  ## the explorer as a web page: make explore MODEL=results/mine (default: the newest model)
	@.venv/bin/nlbs_explore $${MODEL:+"$$MODEL"}
lab: setup      ## JupyterLab on the notebooks
	@$(py) -m jupyterlab nbs
library: setup  ## after an edit in nbs/: clean the notebooks, write the library and README.md from them
	@PATH="$(CURDIR)/.venv/bin:$$PATH" && nbdev_clean && nbdev_export && $(py) tools/readme.py
docs: setup     ## the documentation site from the notebooks, in _docs/
	@$(py) tools/docs.py
readme: setup  ## README.md from nbs/index.ipynb
	@$(py) tools/readme.py
hooks: setup    ## let git clean notebooks on add, in this checkout alone
	@tools/hooks.sh
clean:          ## remove what can be made again: demo and quick run, their archives, caches (never .venv or what is yours)
	@$(if $(wildcard $(py)),$(py),python3) tools/tidy.py
.PHONY: help setup demo quick train evaluate test test-all bench bench-quick accelerator explore lab library docs readme hooks clean
.DEFAULT_GOAL := help
