# Everything runs in .venv, which the first target makes. `make help` lists the targets.
.DEFAULT_GOAL := help
RUN := .venv/bin/
DEMO := demo-output
# A file of tests stays on one worker: its tests share what is dear to make.
WORKERS := -n 2 --dist loadfile

.PHONY: help demo app test test-slow lint docs screenshots bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

demo:  ## set up, then run the main job on the sample volume; results in demo-output/
	@tools/setup
	$(RUN)voxloop demo --out $(DEMO)

app:  ## set up, then open the app on the sample volume; with FILE=cells.tif or FILE=cells.voxloop on that
	@tools/setup napari
	$(RUN)voxloop napari $(or $(FILE),--sample $(DEMO)/app.voxloop)

test:  ## set up, then the fast tests
	@tools/setup dev
	$(RUN)pytest $(WORKERS)

test-slow:  ## the tests that take longer
	@tools/setup dev
	$(RUN)pytest $(WORKERS) -m slow

lint:  ## style, types, import rules, the plugin's manifest
	@tools/setup dev
	$(RUN)ruff check
	$(RUN)ruff format --check
	$(RUN)mypy
	$(RUN)lint-imports
	$(RUN)npe2 validate src/voxloop/napari.yaml

docs:  ## build the documentation into site/
	@tools/setup dev
	NO_MKDOCS_2_WARNING=1 $(RUN)mkdocs build --strict --quiet

screenshots:  ## take the pictures of the app's tutorial (needs Xvfb)
	@tools/setup dev
	xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX +render -noreset" \
	  $(RUN)python tools/screenshots.py docs/images/app

bench:  ## compare speed with other libraries, in ratios
	@tools/setup dev
	$(RUN)python -m benchmarks

clean:  ## remove the environment and everything that was built
	rm -rf .venv site build dist $(DEMO) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
