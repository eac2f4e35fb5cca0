# From Shannon to Diffusion. `make` alone lists what can be made.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python

# One thread a process: two torch processes with two threads each on two cores are many times slower.
export OMP_NUM_THREADS = 1
export PYTHONHASHSEED  = 0
export PYDEVD_DISABLE_FILE_VALIDATION = 1
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help env book slides lab test full release grade bench lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(VENV)/.installed  ## install every dependency into .venv

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

book: env  ## run every notebook and render the website into _build/html
	$(PY) jupyter_book/build.py

slides: env  ## render each lecture's slides into _build/html/slides
	$(PY) jupyter_book/build.py --slides

lab: env  ## open JupyterLab in notebooks/
	unset OMP_NUM_THREADS; $(VENV)/bin/jupyter lab --notebook-dir=notebooks

test: book lint  ## unit tests, every notebook by nbval, the site and JupyterLab in a browser
	$(PY) -m pytest tests --numprocesses=2 --dist=loadfile --no-loadscope-reorder
	$(PY) -m pytest notebooks --nbval-lax --nbval-current-env --nbval-cell-timeout=240 --exitfirst \
	    --numprocesses=2 --dist=loadfile

lint: env  ## ruff on code and notebooks
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

full: env  ## full-budget run of one lecture: make full NB=08
	@test -n "$(NB)" || { echo "say which lecture: make full NB=08"; exit 2; }
	unset OMP_NUM_THREADS; $(PY) -m course_utils.run full $(NB)

release: env  ## the students' copies of the assignments, in grading/release: make release NAME=1_shannon_to_kneser_ney
	$(PY) notebooks/assignments/grade.py release $(NAME)

grade: env  ## grade what is new in grading/submitted: make grade [NAME=…] [SCHEDULER=address of a Dask cluster] [AGAIN=1]
	$(PY) notebooks/assignments/grade.py grade $(NAME) $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(if $(AGAIN),--again)

bench: env  ## wall time and peak memory of each notebook, and of grading a hundred submissions
	$(PY) -m course_utils.run bench
	$(PY) notebooks/assignments/grade.py bench

clean:  ## remove everything that was built or installed
	rm -rf _build $(VENV) *.egg-info
