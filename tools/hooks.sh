#!/usr/bin/env bash
# Let git clean notebooks on add, in this checkout alone:  tools/hooks.sh
#
# What git runs, a branch that is checked out must not be able to change: the key stands in .git/config; the filter's program and the
# settings that it reads are copied into .git (call this again when they change); the interpreter is the one that .venv was made
# from, without its packages: a branch can have files below .venv, and git writes over what it ignores.
# `git config --local --remove-section filter.nbdev-clean` undoes it. Notebooks are merged as text, a line a line of source: nbdev's
# driver, which merges cells, was seen to drop cells of one side without a word, where git's own says what conflicts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shared=$(cd "$(git rev-parse --git-common-dir)" && pwd)

quoted() { # FILE: a word for sh, in which git puts no name of a file in place of a %f
    local word=${1//%/%%} quote="'\\''"
    printf "'%s'" "${word//\'/$quote}"
}

outside() { # the first Python that lies outside the tree, by its real name: of a .venv made by conda, none does
    local python
    for python in "$(.venv/bin/python -I -c 'import sys; print(sys._base_executable)')" /usr/bin/python3 /usr/local/bin/python3; do
        python=$(realpath "$python") && [[ -x $python && $python != "$PWD"/* ]] || continue
        "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' && { echo "$python"; return; }
    done
    echo "hooks.sh: no Python outside of $PWD for git to run: install one (Debian, Ubuntu: apt-get install python3)" >&2
    return 1
}

git config --local --unset-all include.path '^\.\./\.gitconfig$' || true # of former versions: a file that any branch could change
git config --local --remove-section merge.nbdev-merge 2>/dev/null || true # of former versions
python=$(cd "$(pwd -P)" && outside)
cp tools/clean.py "$shared/nlbs-clean.py"
cp settings.ini "$shared/nlbs-clean.ini"
git config --local filter.nbdev-clean.clean "$(quoted "$python") -I -S $(quoted "$shared/nlbs-clean.py")"
