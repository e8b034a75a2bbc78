#!/usr/bin/env bash
# Make the environment on a cluster:  slurm/setup.sh [options]
#
#   setup.sh --site asuka                        as the profile says
#   setup.sh --site asuka --offline wheelhouse   without internet, from what slurm/wheelhouse.sh collected
#   setup.sh --how conda --torch cpu             every choice is an option; nothing is ever asked
#
#   --site NAME      profile in slurm/sites/, or a file (default: generic)
#   --how WAY        module, conda, user or container; auto (default) tries them in this order:
#                      module     the Python of the profile's modules, or the one that is there anyway
#                      conda      conda, mamba or micromamba makes a Python (not with --offline)
#                      user       a Python of your own: ~/.local, ~/bin, pyenv, miniconda, uv
#                      container  apptainer builds nlbs-cvae.sif from slurm/container.def
#   --python FILE    this Python and no other
#   --torch KIND     cu126, cu128 … (a CUDA version) or cpu (default: the profile's)
#   --offline DIR    install from this folder alone
#   --venv DIR       where to (default: .venv in the project); jobs find another one by NLBS_VENV=DIR
#   --force          make it anew
#   --dry-run        say what would be done
#   --help           this
#
# A second call only looks whether everything is there. Packages are those of constraints-hpc.txt and constraints-torch-KIND.txt,
# exactly: a file whose hash isn't named there is refused.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

check_options() {
    [[ $how =~ ^(auto|module|conda|user|container)$ ]] || die "--how $how: give auto, module, conda, user or container"
    [[ -z $offline || -d $offline ]] || die "--offline $offline: no such folder; slurm/wheelhouse.sh makes it on a machine with internet"
    [[ ! -f $offline/SHA256SUMS ]] || (cd "$offline" && sha256sum --check --quiet SHA256SUMS) || die "--offline $offline: not what slurm/wheelhouse.sh collected; bring it here again"
    [[ ! -d $venv || -d $venv/conda-meta || -n $(cd "$venv" && ls pyvenv.cfg site 2>/dev/null) || -z $(ls -A "$venv") ]] || die "--venv $venv: holds other things, and would be cleared; give a new folder"
    [[ -z $python ]] || fits "$python" || die "--python $python: does not run, is older than 3.11, or lacks its venv module"
}

fits() { # PYTHON: new enough, and able to make an environment
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

first_fit() { # PYTHON...: the first that fits
    local python
    for python in "$@"; do
        if [[ -n $python ]] && command -v "$python" >/dev/null && fits "$python"; then command -v "$python"; return; fi
    done
    return 1
}

try_module() { # profile's modules first: `(...)` where they are missing, so that the next way has its turn
    (load_modules) || return 1
    load_modules
    first_fit "python$SITE_PYTHON" python3.11 python3.12 python3.13 python3
}

try_user() {
    first_fit ~/.local/bin/python3.1[1-9] ~/bin/python3.1[1-9] ~/.pyenv/versions/3.1[1-9]*/bin/python ~/miniconda3/bin/python \
        ~/miniforge3/bin/python "$(uv python find "$SITE_PYTHON" 2>/dev/null || true)"
}

conda_command() { command -v mamba || command -v conda || command -v micromamba || command -v "${CONDA_EXE:-${MAMBA_EXE:-}}"; }
container_command() { command -v apptainer || command -v singularity; }

choose() { # sets `way` and `base`: the Python to build on, or the program that makes it; without what was tried in vain
    way=$how base=$python
    if ! newer "$(glibc)" "$(wanted_glibc)"; then # today's wheels refuse an old one, one after the other: better said once
        if [[ $how =~ ^(auto|container)$ && -z $python ]] && base=$(container_command); then way=container; return; fi
        die "glibc $(glibc) here is older than the $(wanted_glibc) that the packages want: the way out is --how container, and apptainer to build it"
    fi
    if [[ -n $python ]]; then way=user; return; fi
    if [[ $how == auto || $how == module ]] && still module && base=$(try_module); then way=module; load_modules; return; fi
    if [[ $how == auto || $how == conda ]] && still conda && [[ -z $offline ]] && base=$(conda_command); then way=conda; return; fi
    if [[ $how == auto || $how == user ]] && still user && base=$(try_user); then way=user; return; fi
    if [[ $how == auto || $how == container ]] && base=$(container_command); then way=container; return; fi
    die "no way to a Python 3.11 ($how): no module, conda, Python of your own or apptainer. Ask for a module and name it in SITE_MODULES, or install miniforge into your home folder"
}

still() { [[ " $vain " != *" $1 "* ]]; } # WAY: not tried in vain yet

try_ways() { # the first way that works, not the first that is installed
    while true; do
        choose
        if [[ $way == container ]]; then return; fi
        if make_environment; then return; fi
        [[ $how == auto && -z $python ]] || die "$way: $base made no environment in $venv that works; it says above why"
        say "$way: $base made no environment that works; trying the next way"
        vain+=" $way"
    done
}

make_environment() { # what it made can run, or it is no success
    say "$way: $base -> $venv"
    [[ -z $dry_run ]] || return 0
    if [[ -z $force && -x $venv/bin/python ]] && fits "$venv/bin/python"; then return 0; fi
    rm -rf "$venv"
    if [[ $way == conda ]]; then
        patiently "$base" "$base" create --yes --quiet --override-channels --channel conda-forge --prefix "$venv" "python=$SITE_PYTHON" pip || return 1
    else
        "$base" -m venv "$venv" || return 1
    fi
    fits "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

pip() { shown pip "$@"; [[ -n $dry_run ]] || patiently "pip" "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

for_this_python() { # what was collected for another version would fail one package at a time
    local tag
    tag=$("$base" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    [[ -n $(find "$offline" -name "*-$tag-$tag-*.whl" | head -n 1) ]] || die "--offline $offline: nothing for $base in it ($tag); slurm/wheelhouse.sh --python X.Y collects for another version"
}

install_packages() { # every file by a hash that a list names; torch first, for the CUDA that was asked for
    local from=() index pins
    if [[ -n $offline ]]; then
        from=(--no-index --find-links "$offline")
        for_this_python
    fi
    from=(install --no-deps --no-build-isolation --require-hashes ${from[@]+"${from[@]}"})
    pip "${from[@]}" -r <(builders)
    pip "${from[@]}" -r "$root/constraints-hpc.txt"
    torch_list "$torch"
    if [[ ! -f $pins && -f $offline/${pins##*/} ]]; then pins=$offline/${pins##*/}; say "hashes of torch for $torch: as $pins has them, for the project has none"
    elif [[ ! -f $pins && -f $offline/constraints-torch.txt ]]; then pins=$root/constraints-torch.txt # what was to be had
    elif [[ -z $dry_run ]]; then need_torch_list "$torch" "$venv/bin/python"; fi
    if [[ -n $offline ]]; then index=''; fi
    if ! pip "${from[@]}" --retries 1 ${index:+--index-url "$index"} -r "$pins"; then
        [[ -z $offline && -n $index ]] || die "torch for $torch could not be installed; pip says above why"
        say "torch for $torch is not to be had from download.pytorch.org: taking the package index's own"
        pip "${from[@]}" -r "$pins" || pip "${from[@]}" -r "$root/constraints-torch.txt"
    fi
    pip install --no-deps --no-build-isolation --use-pep517 --editable "$root"
}

build_container() {
    local recipe=$venv/container.def index pins
    shown "$base" build ${force:+--force} "$SITE_CONTAINER" "$root/slurm/container.def"
    if [[ -n $dry_run || ( -f $SITE_CONTAINER && -z $force ) ]]; then return 0; fi
    [[ -z $offline ]] || die "--offline: build nlbs-cvae.sif elsewhere (apptainer build nlbs-cvae.sif slurm/container.def) and copy it to $SITE_CONTAINER"
    torch_list "$torch"
    need_torch_list "$torch" "$(command -v python3)"
    sed -e "s|--index-url https://download.pytorch.org/whl/cu126|${index:+--index-url $index}|" -e "s|constraints-torch-cu126.txt|${pins##*/}|g" "$root/slurm/container.def" >"$recipe"
    (cd "$root" && "$base" build ${force:+--force} "$SITE_CONTAINER" "$recipe")
}

remember_site() { # for scripts and jobs that are not told
    mkdir -p "$venv"
    case $site in */*) cd "$(dirname "$site")" && pwd | sed "s|\$|/${site##*/}|" ;; *) echo "$site" ;; esac >"$venv/site"
}

wanted() { cat "$root"/{constraints-hpc.txt,settings.ini,setup.py} | cksum; echo "$torch $venv"; }

is_there() { [[ -z $force && -x $venv/bin/python && -f $venv/installed-hpc && $(<"$venv/installed-hpc") == "$(wanted)" ]]; }

site=generic how=auto python='' torch='' offline='' force='' dry_run='' vain=''
options 'site= how= python= torch= offline= venv= force dry-run' "$@"
shift "$taken"
(($# == 0)) || unknown "$1"
check_options
load_site "$site"
torch=${torch:-$SITE_TORCH}
[[ $torch =~ ^(cpu|cu[0-9]+|rocm[0-9.]+)$ ]] || die "--torch $torch: write it as cu126 (for CUDA 12.6) or cpu"
if is_there; then say "$venv is as it should be"; exit 0; fi
try_ways
if [[ -z $dry_run && $way == container ]]; then remember_site; fi
if [[ $way == container ]]; then build_container; exit 0; fi
install_packages
if [[ -n $dry_run ]]; then exit 0; fi
remember_site
"$venv/bin/python" "$root/slurm/facts.py" gpu || say "no GPU here; on a login node that is usual. slurm/check.sh --node looks at a GPU node"
wanted >"$venv/installed-hpc"
say "$venv is ready. Next: slurm/check.sh"
