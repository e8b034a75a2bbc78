#!/usr/bin/env bash
# Let git clean notebooks on add, in this checkout alone:  tools/hooks.sh
#
# What git runs, a branch that is checked out must not be able to change: the key stands in .git/config, the filter's program is
# copied into .git, and it refuses to run where a branch has files below .venv. `git config --local --remove-section
# filter.nbdev-clean` undoes it. Notebooks are merged as text, a line a line of source: nbdev's driver, which merges cells, was
# seen to drop cells of one side without a word, where git's own says what conflicts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shared=$(cd "$(git rev-parse --git-common-dir)" && pwd)

quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }
# shellcheck disable=SC2016 # git's shell expands it
guarded() { # COMMAND: it, unless the index has something below .venv
    printf '%s' 'test -z "$(git ls-files .venv | head -n 1)" || { echo "this branch has files in .venv: what they do is not run" >&2; exit 1; }; '"$1"
}

git config --local --unset-all include.path '^\.\./\.gitconfig$' || true # of former versions: a file that any branch could change
git config --local --remove-section merge.nbdev-merge 2>/dev/null || true # of former versions
cp tools/clean.py "$shared/nlbs-clean.py"
git config --local filter.nbdev-clean.clean "$(guarded "$(quoted "$PWD/.venv/bin/python") -I $(quoted "$shared/nlbs-clean.py")")"
