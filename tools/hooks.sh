#!/usr/bin/env bash
# Let git clean notebooks on add and merge them cell by cell, in this checkout alone:  tools/hooks.sh
#
# What git runs, a branch that is checked out must not be able to change: the keys stand in .git/config, the filter's program is
# copied into .git, and both refuse to run where a branch has files below .venv. `git config --local --remove-section
# filter.nbdev-clean` (and merge.nbdev-merge) undoes it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shared=$(cd "$(git rev-parse --git-common-dir)" && pwd)

quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }
# shellcheck disable=SC2016 # git's shell expands it
guarded() { # COMMAND: it, unless the index has something below .venv
    printf '%s' 'test -z "$(git ls-files .venv | head -n 1)" || { echo "this branch has files in .venv: what they do is not run" >&2; exit 1; }; '"$1"
}

git config --local --unset-all include.path '^\.\./\.gitconfig$' || true # of former versions: a file that any branch could change
cp tools/clean.py "$shared/nlbs-clean.py"
git config --local filter.nbdev-clean.clean "$(guarded "$(quoted "$PWD/.venv/bin/python") -I $(quoted "$shared/nlbs-clean.py")")"
git config --local merge.nbdev-merge.name 'merge notebooks cell by cell'
git config --local merge.nbdev-merge.driver "$(guarded "$(quoted "$PWD/.venv/bin/python") -I $(quoted "$PWD/.venv/bin/nbdev_merge") %O %A %B %P")"
