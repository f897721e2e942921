# What people do most. `make ci` is what must hold before a change lands; the others are its parts.
PYTHON ?= python

.PHONY: fast test lint twins book pages ci

fast:   ## the fast tier: the quick tests of every room
	$(PYTHON) -m pytest -m "not slow"

test:   ## all tests
	$(PYTHON) -m pytest

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

twins:  ## have the chapters' notebooks drifted from their sources?
	$(PYTHON) book/tools/twins/make_twins.py --check

book:   ## the pages, in _build/html
	$(PYTHON) book/tools/site/build.py

pages: book   ## and look at each of them in a browser; pictures of them go to _build/screenshots
	MPC_LITE_SCREENSHOTS=1 $(PYTHON) -m pytest tests/book/test_pages.py tests/book/test_browser.py tests/book/test_try_it.py

ci:
	.ci/run
