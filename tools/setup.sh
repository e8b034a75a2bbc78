#!/usr/bin/env bash
# Make .venv as constraints-dev.txt says, every file by its hash, once: a second call only compares a stamp, so it needs no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly venv=$PWD/.venv stamp=.venv/installed cpu_index=https://download.pytorch.org/whl/cpu

say() { printf '\n== %s\n' "$*"; }
wanted() { echo "$venv"; cat constraints.txt settings.ini setup.py tools/setup.sh | cksum; }
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

find_python() { # the first Python that is new enough; $PYTHON where it is set
    local python
    for python in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        echo "$python"; return
    done
    echo "No Python 3.11 or newer with its venv module was found (tried: ${PYTHON:-python3.11 python3.12 python3.13 python3})." >&2
    echo "Install one (Debian, Ubuntu: apt-get install python3-venv), or name it: make PYTHON=/path/to/python3.11 ..." >&2
    return 1
}

make_venv() { # one that was moved here from elsewhere holds the old place's paths: made anew
    local python clear=''
    python=$(find_python)
    if [[ -f .venv/bin/activate ]] && ! grep -qF "$venv" .venv/bin/activate; then clear=--clear; fi
    "$python" -m venv $clear .venv
}

install() { pip install --no-deps --no-build-isolation --require-hashes "$@"; } # -r LIST: what is in it, each file with a hash named there
builders() { awk '/^[^ ]/ {on = /^(setuptools|wheel)==/} on' constraints-dev.txt; } # they build what comes as source, and this project

has_cpu_index() { # PyTorch's own index has a torch without CUDA; on Linux pypi.org's brings gigabytes of it
    [[ $(uname -s) == Linux ]] && ! nvidia-smi -L >/dev/null 2>&1 &&
        .venv/bin/python -c "from urllib.request import urlopen; urlopen('$cpu_index/torch/', timeout=5)" 2>/dev/null
}

install_torch() { # one index for one package; where PyTorch's can't be reached, whatever pip is configured for: a build without CUDA, or pypi.org's
    if has_cpu_index; then install --index-url "$cpu_index" -r constraints-torch-cpu.txt; return; fi
    if ! nvidia-smi -L >/dev/null 2>&1 && install --only-binary=:all: -r constraints-torch-cpu.txt; then return; fi
    install -r constraints-torch.txt
}

if [[ -f $stamp && $(wanted) == "$(<$stamp)" ]]; then exit 0; fi
say "Setting up .venv (once; about two minutes and two gigabytes)"
rm -f "$stamp"
make_venv
install_torch
install -r <(builders)
install -r constraints-dev.txt
pip install --no-deps --no-build-isolation --use-pep517 --editable .
wanted > "$stamp"
say ".venv is ready"
