#!/usr/bin/env bash
# Collect everything that slurm/setup.sh --offline installs, on a machine with internet:  slurm/wheelhouse.sh [options]
#
#   wheelhouse.sh --site asuka          for the site's Python, glibc and CUDA, into wheelhouse/
#   slurm/transfer.sh --site asuka wheelhouse
#
#   --site NAME      profile in slurm/sites/, or a file (default: generic)
#   --torch KIND     cu126, cu128 … or cpu (default: the profile's)
#   --python X.Y     version of the site's Python (default: the profile's)
#   --dest DIR       folder (default: wheelhouse)
#   --dry-run        say what would be done
#   --help           this
#
# A second call fetches only what is missing. The machine's own Python only needs pip.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

site=generic torch='' python='' dest=wheelhouse dry_run=''
options 'site= torch= python= dest= dry-run' "$@"
shift "$taken"
(($# == 0)) || unknown "$1"

platforms() { # options for every wheel that the site's glibc can load
    local minor machine=${SITE_PLATFORM#manylinux_*_*_}
    minor=$(sed -n 's/^manylinux_2_\([0-9]*\)_.*/\1/p' <<<"$SITE_PLATFORM")
    [[ -n $minor ]] || die "site '$site': SITE_PLATFORM=$SITE_PLATFORM; write it as manylinux_2_28_x86_64"
    for ((; minor >= 5; minor--)); do printf -- '--platform\nmanylinux_2_%s_%s\n' "$minor" "$machine"; done
    printf -- '--platform\n%s\n' "manylinux2014_$machine" "manylinux2010_$machine" "manylinux1_$machine" "linux_$machine"
}

download() { # OPTIONS... PINS...
    shown pip download --dest "$dest" "$@" | sed 's/ --platform [a-z0-9_]*//g'
    [[ -n $dry_run ]] || patiently "pip" "$pip_python" -m pip --disable-pip-version-check --quiet download --dest "$dest" --only-binary=:all: "$@"
}

only_torch() { awk '/^[^ ]/ {on = /^torch==/} on' "$pins"; }
but_torch() { awk '/^[^ ]/ {on = !/^torch==/} on' "$pins"; }

load_site "$site"
torch=${torch:-$SITE_TORCH} python=${python:-$SITE_PYTHON}
pip_python=$venv/bin/python
[[ -x $pip_python ]] || pip_python=$(command -v python3) || die "no python3 here"
"$pip_python" -m pip --version >/dev/null || die "$pip_python has no pip"
mapfile -t target < <(platforms; printf -- '--python-version\n%s\n' "$python")
mkdir -p "$dest"
torch_list "$torch"
if [[ -z $dry_run ]]; then need_torch_list "$torch" "$pip_python"; fi
# one index for one package: torch from PyTorch's, NVIDIA's libraries and the rest from the package index
hashed=("${target[@]}" --no-deps --require-hashes)
if [[ -n $index ]] && download "${hashed[@]}" --retries 1 --index-url "$index" -r <(only_torch); then
    download "${hashed[@]}" -r <(but_torch)
else
    [[ -z $index ]] || say "torch for $torch is not to be had from download.pytorch.org: taking the package index's own"
    download "${hashed[@]}" -r "$pins" || { pins=$root/constraints-torch.txt; download "${hashed[@]}" -r "$pins"; }
fi
download "${hashed[@]}" -r "$root/constraints-hpc.txt"
if [[ -n $dry_run ]]; then exit 0; fi
cp "$pins" "$root/constraints-hpc.txt" "$dest"
# for a damaged copy, said early; what counts against a changed one are the hashes of the project's lists, which set-up asks for
(cd "$dest" && sha256sum -- *.whl >SHA256SUMS)
say "$dest: $(find "$dest" -name '*.whl' | wc -l) wheels, $(du -sh "$dest" | cut -f1), for Python $python and $SITE_PLATFORM. Next: slurm/transfer.sh --site $site wheelhouse $dest"
