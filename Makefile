# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# A bare machine needs git, make and Python 3.11 to 3.13; each target fetches the rest.
PYTHON ?= python3
VENV   := .venv/bin/python
# T narrows `make unit` and `make sanity`: T=tests/unit/host/test_x.py, T="--test pylint".
T      ?=

.PHONY: help test lint sanity unit contract canary input docker faults races molecule bench demo demo-clean lab-up lab-down venv mirror format changelog lock clean
.DEFAULT_GOAL := help

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

test: venv ## every check, as CI runs them
	@$(VENV) -m tests.gates.everything

lint: venv ## style, types, licences, documentation, changelog, Galaxy
	@$(VENV) -m tests.gates.lint $(T)

sanity: venv ## ansible-test sanity
	@$(VENV) -m tests.gates.sanity $(T)

unit: venv ## unit tests on every Python found; needs no root
	@$(VENV) -m tests.gates.units $(T)

contract: venv ## check, run, run, check for every module on real hosts
	@$(VENV) -m tests.gates.lab tests/contract $(T)

canary: venv ## no secret is anywhere but in the files made for it
	@$(VENV) -m tests.gates.lab tests/canary $(T)

input: venv ## hostile values for every option
	@$(VENV) -m tests.gates.lab tests/input $(T)

docker: venv ## the volume driver under Docker and podman
	@$(VENV) -m tests.gates.lab tests/docker $(T)

faults: venv ## kill points, power loss, dead servers, full disks, races: all of them
	@$(VENV) -m tests.gates.lab tests/faults $(T)

races: venv ## two hosts and one disk, two hundred rounds, to tests/faults/RACES.md
	@$(VENV) -m tests.gates.lab tests/faults/test_race.py $(T)

molecule: venv ## the Molecule scenarios
	@$(VENV) -m tests.gates.scenarios $(T)

bench: venv ## measurements, to build/bench.json
	@$(VENV) -m tests.bench $(T)

demo: venv ## a host, three servers, site.yml twice, the table of all four kinds, the console of a machine
	@$(VENV) -m tests.demo

demo-clean: venv ## take the demo away
	@$(VENV) -m tests.demo --clean

lab-up: venv ## hosts and servers to try things on
	@$(VENV) -m tests.lab up $(T)

lab-down: venv ## take them away
	@$(VENV) -m tests.lab down $(T)

venv: ## .venv with the pinned tools
	@$(PYTHON) -B -m tests.gates.venv

mirror: ## the checkout as build/ansible_collections/microvm/host
	@$(PYTHON) -B -m tests.gates.mirror

format: venv ## put the Python files in form
	@.venv/bin/ruff check --quiet --fix-only plugins tests && .venv/bin/ruff format --quiet plugins tests

changelog: venv ## CHANGELOG.md of the fragments
	@$(VENV) -m tests.gates.changelog

lock: venv ## resolve tests/*.in anew
	@$(VENV) -m tests.gates.lock

clean: ## remove what the gates made
	rm -rf build .venv .mypy_cache .pytest_cache .ruff_cache .ansible tests/output
