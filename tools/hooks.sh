#!/usr/bin/env bash
# Let git clean notebooks on add, in this checkout alone:  tools/hooks.sh
#
# What git runs, a branch that is checked out must not be able to change: the key stands in .git/config, the filter's program is
# copied into .git, and the interpreter is the one that .venv was made from, without its packages: a branch can have files below
# .venv, and git writes over what it ignores. `git config --local --remove-section filter.nbdev-clean` undoes it. Notebooks are
# merged as text, a line a line of source: nbdev's driver, which merges cells, was seen to drop cells of one side without a word,
# where git's own says what conflicts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shared=$(cd "$(git rev-parse --git-common-dir)" && pwd)

quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

git config --local --unset-all include.path '^\.\./\.gitconfig$' || true # of former versions: a file that any branch could change
git config --local --remove-section merge.nbdev-merge 2>/dev/null || true # of former versions
cp tools/clean.py "$shared/nlbs-clean.py"
python=$(.venv/bin/python -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
git config --local filter.nbdev-clean.clean "$(quoted "$python") -I -S $(quoted "$shared/nlbs-clean.py")"
