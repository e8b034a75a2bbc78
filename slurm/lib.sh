# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what it sets, others use; `rules`, `tries`, `no_check`, `dry_run` are the options of transfer and download
# What the scripts and the job files share. It is sourced, never run. Bash 4.2 and the coreutils of its time are enough.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${NLBS_VENV:-$root/.venv}
me=$(basename "$0")

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"; }
die() { printf '%s: %s\n' "$me" "$*" >&2; exit 2; }

usage() { # the comment at the head of the script is its help
    sed -n '2,/^[^#]/{/^#/!d;s/^# \{0,1\}//;p;}' "$0"
}

unknown() { die "unknown option '$1'; $me --help lists them"; }

options() { # 'NAME= FLAG ...' ARGUMENTS...: --name VALUE sets $name, --a-flag makes $a_flag yes; sets `taken`, how many words they were
    local known=" $1 " all=$# name
    shift
    while [[ ${1:-} == --* ]]; do
        name=${1#--}
        if [[ $name == help ]]; then usage; exit 0; fi
        if [[ $known == *" $name "* ]]; then printf -v "${name//-/_}" yes; shift; continue; fi
        [[ $known == *" $name= "* ]] || unknown "$1"
        [[ -n ${2:-} ]] || die "option $1 wants a value; $me --help explains it"
        printf -v "${name//-/_}" %s "$2"
        shift 2
    done
    taken=$((all - 1 - $#))
}

field() { # FILE KEY: a value of a flat JSON file as the library writes it, a key a line; '' where there is none
    [[ ! -f $1 ]] || sed -n "s/^ *\"$2\": *\"\{0,1\}\([^\"]*[^\",]\)\"\{0,1\},\{0,1\}\$/\1/p" "$1" | head -n 1
}

newer() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; } # HAS WANTED: is it at least as new?
glibc() { getconf GNU_LIBC_VERSION | awk '{print $2}'; }
wanted_glibc() { sed -n 's/^manylinux_\([0-9]*\)_\([0-9]*\)_.*/\1.\2/p' <<<"$SITE_PLATFORM"; }

kib_free() { df -k --output=avail "$1" | tail -n 1; } # the disk's own name may have a space in it

shown() { # WORDS...: a line that any shell, and Python's shlex, takes apart into the same words
    local word line='' quote="'\\''"
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//\'/$quote}'"
        line+="${line:+ }$word"
    done
    printf '%s\n' "$line"
}

named() { # WHAT NAME: a name that becomes one folder below another, and nothing else
    local odd='*?[]\!"#$%&(),:;<=>@^`{|}~'"'"
    if [[ -z ${2//[[:space:]]/} || $2 == . || $2 == .. || $2 == -* || $2 == */* || $2 == *[[:cntrl:]]* || ${#2} -gt 200 ]]; then
        die "$1 '$2': give a plain name, such as first: no path, no '.', '..' or '-' at its start"
    fi
    # no run is called so, and rsync would spell a pattern out at the other end: all runs
    if [[ $1 == run && ($2 == [.+]* || $2 == *["$odd"]*) ]]; then
        die "run '$2': give a plain name, such as first: letters, digits, '_', '-', '+', '.' and spaces, a letter or digit first"
    fi
}

patiently() { # WHAT COMMAND...: a line every 50 seconds while it works, for it says nothing itself; its exit status
    local what=$1 start=$SECONDS watcher rc=0
    shift
    (trap 'kill "$!" 2>/dev/null; exit' TERM; while sleep 50 & wait "$!" && kill -0 $$ 2>/dev/null; do say "$what: $((SECONDS - start)) s so far" >&2; done) & watcher=$!
    "$@" || rc=$?
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    return "$rc"
}

# ---- the site -----------------------------------------------------------------------------------------------------

load_site() { # [NAME or FILE]: the profile's variables; without one, the site that .venv was set up for
    local name=${1:-${NLBS_SITE:-}} file
    [[ -n $name ]] || name=$(cat "$venv/site" 2>/dev/null) || name=generic
    file=$name
    [[ $name == */* ]] || file=$root/slurm/sites/$name.env
    [[ -f $file ]] || die "no site '$name': the sites are $(cd "$root/slurm/sites" && printf '%s ' *.env | sed 's/\.env//g')or give a file's path"
    # shellcheck source=slurm/sites/generic.env
    source "$root/slurm/sites/generic.env"
    # shellcheck disable=SC1090
    source <(tr -d '\r' <"$file") # a profile that was edited on Windows
    site=$name
    check_site "$file"
}

check_site() { # FILE: what the profile says can be used as it stands, or is named; SITE_MEM and SITE_TIME as SLURM takes them everywhere
    local name unknown
    unknown=$(comm -23 <(sed -n 's/^[[:space:]]*\(export \)\{0,1\}\(SITE_[A-Za-z_0-9]*\)=.*/\2/p' "$1" | sort -u) <(sed -n 's/^\(SITE_[A-Z_]*\)=.*/\1/p' "$root/slurm/sites/generic.env" | sort -u) | paste -sd' ')
    [[ -z $unknown ]] || die "site '$site': no profile has $unknown; slurm/sites/template.env lists what there is"
    SITE_MEM=$(memory "$SITE_MEM") && SITE_TIME=$(limit "$SITE_TIME") || exit 2
    [[ $SITE_CPUS =~ ^[1-9][0-9]*$ ]] || die "site '$site': SITE_CPUS=$SITE_CPUS: give a whole number"
    [[ $SITE_GPUS =~ ^([A-Za-z0-9_.-]+:)?[1-9][0-9]*$ ]] || die "site '$site': SITE_GPUS=$SITE_GPUS: give a whole number, or with the kind before it, as a100:2"
    [[ $SITE_TORCH =~ ^(cpu|cu[0-9]+|rocm[0-9.]+)$ ]] || die "site '$site': SITE_TORCH=$SITE_TORCH: write it as cu126 (for CUDA 12.6) or cpu"
    [[ $SITE_PYTHON =~ ^3\.[0-9]+$ ]] || die "site '$site': SITE_PYTHON=$SITE_PYTHON: give a version such as 3.11"
    for name in SITE_HOST SITE_USER SITE_ACCOUNT SITE_PARTITION SITE_CPU_PARTITION SITE_QOS SITE_MAIL SITE_JOB; do
        [[ ! ${!name} =~ [[:space:]\|\&\;\"\'\$\`\\] && ${!name} != -* ]] || die "site '$site': $name=${!name}: it must be one plain word"
    done
}

memory() { # AMOUNT [TIMES]: 32G, 32g, 32GB, 32 GiB, 1.5T, 32000 (MiB) or 0 (all of a node's) as SLURM takes it; '' stays the cluster's default
    local text=${1^^} unit
    text=${text//[[:space:]]/} text=${text%B} text=${text%I}
    [[ -n $1 ]] || return 0
    [[ $text =~ ^([0-9]+)(\.[0-9]+)?([KMGT]?)$ ]] || die "site '$site': SITE_MEM=$1: write it as 32G, 32000M or 0 (all of a node's)"
    unit=${BASH_REMATCH[3]}
    if [[ -z ${BASH_REMATCH[2]} ]]; then echo "$((10#${BASH_REMATCH[1]} * ${2:-1}))$unit"; return; fi
    awk -v n="${text%[KMGT]}" -v u="${unit:-M}" -v k="${2:-1}" 'BEGIN {f["K"] = 1 / 1024; f["M"] = 1; f["G"] = 1024; f["T"] = 1048576; printf "%dM\n", n * f[u] * k}'
}

limit() { # TIME: 24:00:00, 1-12, 90 (minutes), 24h, 90min, 2d or infinite as SLURM takes it
    local text=${1,,}
    text=${text//[[:space:]]/}
    [[ $text =~ ^([0-9]+-)?[0-9]+(:[0-9]+){0,2}$|^infinite$|^unlimited$ ]] && { echo "$text"; return; }
    [[ $text =~ ^([0-9]+)(d|day|days|h|hour|hours|m|min|minutes)$ ]] || die "site '$site': SITE_TIME=$1: write it as 24:00:00 or 2-12:00:00 (days-hours)"
    case ${BASH_REMATCH[2]} in d*) echo "${BASH_REMATCH[1]}-0" ;; h*) echo "${BASH_REMATCH[1]}:00:00" ;; *) echo "${BASH_REMATCH[1]}" ;; esac
}

load_modules() { # what the profile names; a cluster without the module command needs none
    local module f
    [[ -n $SITE_MODULES ]] || return 0
    set +u # module systems were never written for it
    for f in /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh /etc/profile.d/modules.sh "${MODULESHOME:-/usr/share/modules}/init/bash"; do
        if [[ $(type -t module) != function && -f $f ]]; then
            # shellcheck disable=SC1090
            source "$f"
        fi
    done
    [[ $(type -t module) == function ]] || die "site '$site' wants modules ($SITE_MODULES), but there is no module command on $(uname -n)"
    for module in $SITE_MODULES; do # old versions say 0 whatever happens: look at what is loaded
        module load "$module" || true
        [[ :${LOADEDMODULES:-}: == *:"$module"[:/]* ]] || die "no module '$module' on $(uname -n): mend SITE_MODULES of site '$site' (module avail lists what there is)"
    done
    set -u
}

find_python() { # sets `within`, what goes before python, nlbs_train …: they are .venv's, or the container's with the code that is here
    local runner folder seen=$root
    if [[ -x $venv/bin/python ]]; then within=(env "PATH=$venv/bin:$PATH"); return; fi
    [[ -f $SITE_CONTAINER ]] || die "no environment in $venv: run slurm/setup.sh first"
    runner=$(command -v apptainer || command -v singularity) || die "$SITE_CONTAINER wants apptainer or singularity, and neither is here"
    for folder in "$SITE_SCRATCH" "$SITE_DATA"; do if [[ $folder == /* && -d $folder ]]; then seen+=,$folder; fi; done
    within=("$runner" exec --nv --bind "$seen" --env "PYTHONPATH=$root" "$SITE_CONTAINER")
}

fact() { # run|cache CONFIG RUN [OVERRIDE...]: where the run or its prepared images are
    "${within[@]}" python "$root/slurm/facts.py" "$@"
}

torch_list() { # KIND: sets `pins`, the list with the hashes of torch for it, and `index`, where it is; one index for one package
    index=https://download.pytorch.org/whl/$1 pins=$root/constraints-torch-$1.txt
    if [[ $1 == cu130 ]]; then index='' pins=$root/constraints-torch.txt; fi # what the package index has
}

need_torch_list() { # KIND PYTHON: the project has lists for cpu and for CUDA 13; another is written once, and obeyed from then on
    if [[ -f $pins ]]; then return; fi
    say "the project has no hashes of torch for $1: PyTorch's index is asked once, and ${pins##*/} keeps what it says"
    (cd "$root" && patiently "asking" "$2" tools/pins.py torch "$1") && [[ -f $pins ]] && return
    say "torch for $1 is not to be had from download.pytorch.org: taking the package index's own, for CUDA 13"
    index='' pins=$root/constraints-torch.txt
}

builders() { awk '/^[^ ]/ {on = /^(setuptools|wheel)==/} on' "$root/constraints-hpc.txt"; } # they build what comes as source

# ---- to the cluster and back --------------------------------------------------------------------------------------

far() { # PATH: as rsync names it at the site
    [[ -n $SITE_HOST ]] || die "site '$site' names no SITE_HOST: give --site, or write it into the profile"
    printf '%s%s:%s' "${SITE_USER:+$SITE_USER@}" "$SITE_HOST" "$(at_home "$1")"
}

at_home() { # PATH: seen from the home folder there; a ~ in a profile has become the home folder here
    local path=${1#"$HOME/"}
    # shellcheck disable=SC2088 # the letter itself
    printf '%s' "${path#'~/'}"
}

copy() { # FROM TO: rsync until it is through; a broken connection is taken up again, in the middle of a file
    local try rc=0 flags=(-rlt -z --partial-dir=.rsync-partial --timeout=60 "${rules[@]}")
    if [[ -n $dry_run ]]; then flags+=(--dry-run --itemize-changes); else flags+=(--stats --human-readable); fi
    if [[ $1$2 =~ [^A-Za-z0-9_./:@-] ]]; then flags+=(--protect-args); fi
    for ((try = 1; try <= tries; try++)); do
        if ((try > 1)); then sleep "${NLBS_RETRY:-15}"; fi
        shown rsync "${flags[@]}" "$1" "$2"
        patiently "copying" rsync "${flags[@]}" "$1" "$2" && rc=0 || rc=$?
        case $rc in
            0) return ;;
            10 | 12 | 30 | 35 | 255) say "the connection broke (rsync $rc), attempt $try of $tries" ;;
            *) die "rsync ended with $rc; its lines above say which file" ;;
        esac
    done
    die "the connection broke $tries times; the same command goes on where it was"
}

compare() { # FROM TO: checksums at both ends
    local other protect=()
    if [[ -n $no_check$dry_run ]]; then return 0; fi
    if [[ $1$2 =~ [^A-Za-z0-9_./:@-] ]]; then protect=(--protect-args); fi
    other=$(patiently "comparing checksums" rsync -rln --checksum --itemize-changes --out-format='%i %n' ${protect[@]+"${protect[@]}"} "${rules[@]}" "$1" "$2" | grep -E '^[<>]' || true)
    [[ -z $other ]] || die "differs after the copy (changed meanwhile?): $(head -n 3 <<<"$other"); call this again"
    say "the same at both ends: $2"
}

sync_to() { # FROM TO-THERE
    local there
    there=$(far "$2")
    if [[ -z $dry_run ]]; then ${RSYNC_RSH:-ssh} "${there%%:*}" "mkdir -p -- $(shown "$(at_home "$2")")" || die "cannot make $2 on $SITE_HOST: is the name right, does ssh let you in, is there room?"; fi
    copy "$1" "$there"
    compare "$1" "$there"
}

sync_from() { # FROM-THERE TO
    copy "$(far "$1")" "$2"
    compare "$(far "$1")" "$2"
}

# ---- inside a job -------------------------------------------------------------------------------------------------

begin_job() { # CONFIG RUN [OVERRIDE...]: environment and place of the run; sets config, run, run_dir, job, rc, stopping
    local out
    config=${1:?give the settings: a name or a YAML file} run=${2:?give the name of the run}
    named run "$run"
    job=${SLURM_JOB_ID:?this is a job file: submit it, sbatch slurm/train.slurm CONFIG RUN} rc=0 stopping=
    me=$SLURM_JOB_NAME
    # in an array, the plain id would requeue all of it
    if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
    trap 'stopping=yes' USR1 TERM # one handler: bash may lose one of two different signals that come together
    umask 077
    for out in /dev/stdout /dev/stderr; do if [[ -f $out ]]; then chmod go-rwx "$out" || true; fi; done # the job's log names this node and its folders
    load_site
    load_modules
    find_python
    make_scratch
    # what papermill and the kernel say to each other goes through sockets in this folder, which is no network disk
    export JUPYTER_RUNTIME_DIR=$scratch/jupyter PYTHONUNBUFFERED=1 MPLBACKEND=agg OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
    say "job $job, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $(uname -n), site $site"
    run_dir=$(fact "${NLBS_FACT:-made}" "$@") || exit 2
    say "run folder $run_dir"
}

make_scratch() { # sets `scratch`, a folder on the node's own disk that goes with the job
    local base=$SITE_SCRATCH
    if [[ ! -d $base || ! -w $base ]]; then base=/tmp; fi
    scratch=$(mktemp -d "$base/nlbs.XXXXXX") || die "cannot write to $base on $(uname -n): mend SITE_SCRATCH of site '$site'"
    trap 'rm -rf "$scratch"' EXIT
}

need_gpu() { # a job that was given a GPU must be able to use it: a day of training on the processor is no help
    [[ ${NLBS_DEVICE:-} != cpu ]] || return 0
    "${within[@]}" python "$root/slurm/facts.py" gpu || die "no GPU on $(uname -n) that torch can use; slurm/check.sh says why. (NLBS_DEVICE=cpu trains without)"
}

need_space() { # FOLDER: a disk that is all but full ends the job before it begins
    mkdir -p "$1"
    (($(kib_free "$1") > 1024 * 1024)) || die "$1: less than 1 GiB free on this disk ($(($(kib_free "$1") / 1024)) MiB): make room first"
}

on_host() { # the run's machine, where it is known
    [[ ! -f $run_dir/private/host ]] || printf ' on %s' "$(<"$run_dir/private/host")"
}

free_lock() { # the run may be in use; but a lock of a job that is gone, or of this job's former start, is nobody's
    local lock=$run_dir/lock.json holder
    holder=$(field "$lock" job)
    while [[ -n $holder && $holder == "$job" && -f $lock ]] && (($(date +%s) - $(stat -c %Y "$lock") < 60)); do
        say "waiting: the former start of this job still shows signs of life"
        sleep 10
    done
    [[ -n $holder && -f $lock ]] || return 0 # held outside the queue: training itself looks whether it lives
    if [[ $holder != "$job" ]] && squeue -h -j "$holder" 2>/dev/null | grep -q .; then
        die "$run_dir: this run is in use by job $holder$(on_host); wait for it, scancel it, or take another name"
    fi
    rm -f "$lock"
}

stage_cache() { # CONFIG RUN [OVERRIDE...]: copy the prepared images to the node's own disk, where that helps and they fit
    local cache size
    [[ ${NLBS_STAGE:-auto} != never ]] || return 0
    cache=$(fact cache "$@") || exit 2
    [[ -f $cache/cache.json ]] || return 0 # not prepared yet
    size=$(du -skc "$cache"/{images.npy,table.csv,cache.json} | awk 'END {print $1}')
    if [[ ${NLBS_STAGE:-auto} == auto ]]; then
        if [[ $(stat -c %d "$cache") == "$(stat -c %d "$scratch")" || $(stat -f -c %T "$scratch") == tmpfs ]]; then return 0; fi
    fi
    if ((size + size / 10 > $(kib_free "$scratch"))); then say "prepared images stay where they are: $((size / 1024)) MiB do not fit into $scratch"; return 0; fi
    mkdir "$scratch/cache"
    if ! cp "$cache"/{images.npy,table.csv,cache.json} "$scratch/cache/"; then say "prepared images stay where they are"; rm -rf "$scratch/cache"; return 0; fi
    export NLBS_STAGED_CACHE=$scratch/cache
    say "prepared images staged: $((size / 1024)) MiB in $scratch on $(uname -n)"
}

stage_for_node() { # CONFIG RUN [OVERRIDE...]: the first process of a node stages for all of it; the others wait for its word
    word=$(dirname "$scratch")/$NLBS_JOB_NAME.$SLURM_NODEID
    if ((SLURM_LOCALID == 0)); then
        stage_cache "$@"
        trap 'rm -rf "$scratch" "$word"' EXIT
        echo "${NLBS_STAGED_CACHE:-}" >"$scratch/word"
        mv "$scratch/word" "$word"
    else
        SECONDS=0
        until [[ -f $word ]]; do sleep 1; ((SECONDS % 50)) || say "waiting for the first process on $(uname -n), which copies the prepared images: $SECONDS s so far"; done
        NLBS_STAGED_CACHE=$(<"$word")
        export NLBS_STAGED_CACHE
    fi
}

run_until_done() { # COMMAND...: deaf to signals; a signal to this script drops the run's stop file instead. Sets rc
    local pid grace=${NLBS_GRACE:-240}
    (trap '' USR1 TERM; exec "$@") & pid=$!
    while kill -0 "$pid" 2>/dev/null; do # seconds, not `wait`: a signal that comes just before a wait is seen after it
        if [[ -n $stopping ]]; then
            if ((grace <= 0)); then rc=124; return; fi # it prepares images, say: that goes on where it was
            if [[ -f $run_dir/settings.yaml ]]; then touch "$run_dir/stop"; fi # again and again: a run that begins clears it away
            ((grace -= 2)) || true
        fi
        sleep 2 || true
    done
    wait "$pid" && rc=0 || rc=$?
    rm -f "$run_dir/stop"
}

end_job() { # by what status.json says, never by the exit status alone, which papermill makes its own
    local state
    state=$(field "$run_dir/status.json" state)
    say "run is ${state:-not begun}, exit status $rc"
    if [[ -n $stopping && ( $state == interrupted || $rc == 124 ) ]]; then requeue; fi
    [[ $state == finished || $rc != 0 ]] || rc=1
    exit "$rc"
}

end_task() { # of a job without a status: what was stopped begins again
    say "exit status $rc"
    if [[ -n $stopping && $rc != 0 ]]; then requeue; fi
    exit "$rc"
}

requeue() { # this job, unless it was cancelled: then scontrol would bring it back
    local state
    state=$(squeue -h -j "$job" -o %T 2>/dev/null) || state=RUNNING
    if [[ $state != RUNNING ]]; then say "saved; not requeued, the job is ${state:-ended}. The same sbatch line goes on"; exit 0; fi
    if ((${SLURM_RESTART_COUNT:-0} >= ${NLBS_RESTARTS:-100})); then die "started ${NLBS_RESTARTS:-100} times and not finished: is the time limit too short for any progress?"; fi
    say "requeue job $job"
    scontrol requeue "$job" || die "this cluster let the job not requeue itself (JobRequeue, --requeue); it is saved: submit it again to go on"
    exit 0
}
