#!/usr/bin/env bash
# The accelerator's check on a machine without a network that has Python and torch, but not this project:
#
#   tools/accelerator.sh collect FOLDER   on a machine with a network and this checkout: all that is missing there, below 60 MB
#   FOLDER/accelerator.sh run FOLDER      there, once the folder is copied: installs into FOLDER/site alone, checks, FOLDER/found
#
#   --python X.Y     collect: Python of that machine (default: 3.12); run: the command (default: python3)
#   --torch have     collect: torch is there already, the only way so far (slurm/wheelhouse.sh collects torch too)
#   --have LIST      collect: what is there, as `python -m pip list --format freeze` prints it (default: torch, numpy, pandas,
#                    scipy, matplotlib, opencv, torchmetrics, tensorboard, safetensors, PyYAML, tqdm, and what those need)
#   --images FOLDER  collect: images to train on, a folder as $NLBS_TEST_DATA has it (default: a phantom is drawn there)
#   --help           this
#
# Further words of `run` go to nlbs_accelerator: run FOLDER --minutes 4, run FOLDER --tiny.
set -euo pipefail

die() { echo "accelerator.sh: $*" >&2; exit 2; }
usage() { sed -n '2,/^set/{/^#/!d;s/^# \{0,1\}//;p;}' "$0"; }

collect() { # FOLDER OPTIONS...
    local root folder=$1
    shift
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    [[ -x $root/.venv/bin/python ]] || die "no .venv in $root: make setup"
    "$root/.venv/bin/python" "$root/tools/missing.py" "$folder" "$@"
    cp "$root/tools/accelerator.sh" "$folder/accelerator.sh"
    chmod +x "$folder/accelerator.sh"
    echo "$folder: $(find "$folder/wheels" -name '*.whl' | wc -l) wheels, $(du -sm "$folder" | cut -f1) MB. Copy it, and there: $folder/accelerator.sh run $folder"
}

run() { # FOLDER [--python COMMAND] WORDS...
    local folder python=python3
    folder=$(cd "$1" && pwd)
    shift
    if [[ ${1:-} == --python ]]; then python=${2:?a command}; shift 2; fi
    compgen -G "$folder/wheels/*.whl" >/dev/null || die "$folder has no wheels: collect comes first"
    if [[ ! -f $folder/site/whole ]]; then
        rm -rf "$folder/site"
        "$python" -m pip --disable-pip-version-check install --quiet --no-index --no-deps --target "$folder/site" "$folder"/wheels/*.whl
        touch "$folder/site/whole"
    fi
    if [[ -d $folder/images ]]; then export NLBS_TEST_DATA=$folder/images; else unset NLBS_TEST_DATA; fi
    export PYTHONPATH=$folder/site NO_ALBUMENTATIONS_UPDATE=1
    exec "$python" "$folder/site/bin/nlbs_accelerator" "$folder/found" "$@"
}

case ${1:-} in
    --help | -h) usage ;;
    collect | run)
        [[ -n ${2:-} && $2 != -* ]] || die "$1 which folder? accelerator.sh --help explains it"
        "$@" ;;
    *) die "collect or run? accelerator.sh --help explains it" ;;
esac
