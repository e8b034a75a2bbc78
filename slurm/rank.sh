#!/usr/bin/env bash
# One process of train_multi.slurm; srun starts it:  rank.sh CONFIG RUN [block.key=value ...]
# The first rank runs the notebook, the others train along. Each finds its rank and the first one's address in the environment.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
if [[ ${1:-} == --help ]]; then usage; exit 0; fi

trap '' USR1 TERM # training looks for the stop file
load_site
find_python
make_scratch
stage_for_node "$@"
export JUPYTER_RUNTIME_DIR=$scratch/jupyter
if ((SLURM_PROCID == 0)); then
    "${within[@]}" python "$root/tools/notebook.py" 05_train "$2" "$1" "${@:3}"
else
    "${within[@]}" nlbs_train "$1" "$2" --overrides "$(shown "${@:3}")"
fi
