#!/usr/bin/env bash
# Make .venv as constraints.txt says, once: a second call only compares a stamp, so it needs no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly venv=$PWD/.venv stamp=.venv/installed cpu_index=https://download.pytorch.org/whl/cpu

say() { printf '\n== %s\n' "$*"; }
wanted() { echo "$venv"; cat constraints.txt settings.ini setup.py tools/setup.sh | cksum; }
pin() { grep -oE "^$1==[^ ]+" constraints.txt; }
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

install_cpu_torch() { # on Linux the plain pin brings gigabytes of CUDA; where no GPU is, PyTorch's own index has it without
    [[ $(uname -s) == Linux ]] || return 0
    if nvidia-smi -L >/dev/null 2>&1; then return 0; fi
    .venv/bin/python -c "from urllib.request import urlopen; urlopen('$cpu_index/torch/', timeout=5)" 2>/dev/null || return 0
    pip install --no-deps --index-url "$cpu_index" "$(pin torch)" "$(pin torchvision)" || true
}

drop_torchvision() { # fastai asks for it, nothing here does; a build for another torch breaks what looks for it
    if .venv/bin/python -c 'import torchvision' 2>/dev/null; then return; fi
    pip uninstall --quiet --yes torchvision
}

if [[ -f $stamp && $(wanted) == "$(<$stamp)" ]]; then exit 0; fi
say "Setting up .venv (once; about two minutes and two gigabytes)"
rm -f "$stamp"
make_venv
install_cpu_torch
pip install "$(pin setuptools)" "$(pin wheel)"
pip install --constraint constraints.txt --no-build-isolation --use-pep517 --editable '.[dev]'
drop_torchvision
wanted > "$stamp"
say ".venv is ready"
