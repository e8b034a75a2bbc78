#!/usr/bin/env bash
# Is the cluster ready, and is the run?  slurm/check.sh [options] [CONFIG RUN [block.key=value ...]]
#
#   check.sh                                  the environment: one line a finding
#   check.sh hpc_training_config first        also data, settings, prepared images, and whether SLURM takes the job
#   check.sh --node hpc_training_config first the same on a GPU node: what a job will see
#
#   --site NAME      profile in slurm/sites/, or a file (default: the one that .venv was set up for)
#   --node           look from a node of the GPU partition, through srun
#   --help           this
#
# A line begins with ok, warn or FAIL and says what to do. Exit status 1 where anything failed.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

failed=0
ok() { printf 'ok    %-10s %s\n' "$1" "$2"; }
warn() { printf 'warn  %-10s %s\n' "$1" "$2"; }
fail() { printf 'FAIL  %-10s %s\n' "$1" "$2"; failed=1; }

check_modules() {
    local said
    if [[ -z $SITE_MODULES ]]; then ok modules "site '$site' names none"; return; fi
    if said=$( (load_modules) 2>&1 ); then load_modules; ok modules "$SITE_MODULES"; else fail modules "${said##*$'\n'}"; fi
}

check_python() {
    if said=$( (find_python) 2>&1 ); then find_python; else fail python "$said"; return 1; fi
    ok python "$("${within[@]}" python -c 'import sys; print(sys.version.split()[0], sys.executable)')"
    if ! "${within[@]}" python -c 'import nlbs_cvae.training' 2>/dev/null; then fail python "nlbs_cvae does not import: run slurm/setup.sh --force"; return 1; fi
}

check_glibc() {
    if newer "$(glibc)" "$(wanted_glibc)"; then ok glibc "$(glibc)"; else
        fail glibc "$(glibc) is older than the $(wanted_glibc) that the packages want: slurm/setup.sh --how container"
    fi
}

least_driver() { # CUDA version: the oldest driver that runs it (CUDA's own release notes, minor version compatibility)
    case $1 in 11.*) echo 450.80 ;; 12.*) echo 525.60 ;; 13.*) echo 580.65 ;; *) echo 0 ;; esac
}

check_gpu() { # driver against torch's CUDA, then torch itself
    local driver cuda
    cuda=$("${within[@]}" python -c 'import torch; print(torch.version.cuda or "")')
    if [[ -z $cuda ]]; then warn cuda "this torch is without CUDA: it trains on the processor. slurm/setup.sh --force --torch cu126"; return; fi
    if ! driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1); then
        warn gpu "none on $(uname -n): a login node has none; --node looks at a GPU node"; return
    fi
    if ! newer "$driver" "$(least_driver "$cuda")"; then
        fail driver "$driver is older than the $(least_driver "$cuda") that CUDA $cuda wants: slurm/setup.sh --force --torch with an older CUDA"; return
    fi
    ok driver "$driver for CUDA $cuda"
    if said=$("${within[@]}" python "$root/slurm/facts.py" gpu 2>&1); then ok gpu "$said"; else fail gpu "$said, though there is a driver: was the job given one (--gres)?"; fi
}

check_room() { # memory, disk, quota, rights
    local folder free
    ok memory "$(awk '/MemAvailable/ {printf "%.0f GiB free", $2/1048576}' /proc/meminfo), $(nproc) cores"
    for folder in "$PWD" "$SITE_SCRATCH"; do
        if [[ ! -d $folder || ! -w $folder ]]; then fail disk "cannot write to $folder: check its name and rights (SITE_SCRATCH, or the folder you are in)"; continue; fi
        free=$(($(kib_free "$folder") / 1048576))
        if ((free < 10)); then warn disk "$folder: $free GiB free; a run wants some, its checkpoints most of them"; else ok disk "$folder: $free GiB free"; fi
    done
    if command -v quota >/dev/null && said=$(quota -s 2>/dev/null | tail -n 1) && [[ -n $said ]]; then ok quota "$(tr -s ' ' <<<"$said")"; fi
}

minutes() { # DAYS-HOURS[:MINUTES[:SECONDS]], HOURS:MINUTES:SECONDS, MINUTES[:SECONDS] or infinite
    local days=0 hours=0 rest
    case $1 in
        *-*) days=${1%%-*}; IFS=: read -r hours rest _ <<<"${1#*-}" ;;
        *:*:*) IFS=: read -r hours rest _ <<<"$1" ;;
        [0-9]*) rest=${1%:*} ;;
        *) days=1000000 ;;
    esac
    echo $((days * 1440 + 10#$hours * 60 + 10#${rest:-0}))
}

check_slurm() {
    local limit flags
    if ! command -v sbatch >/dev/null; then fail slurm "no sbatch here: this is no login node of a SLURM cluster"; return; fi
    if ! said=$(sinfo -h 2>&1); then fail slurm "$(head -n 1 <<<"$said"): the controller does not answer; ask its administrators"; return; fi
    if ! limit=$(sinfo -h -p "$SITE_PARTITION" -o '%l' | head -n 1) || [[ -z $limit ]]; then
        fail partition "no '$SITE_PARTITION': there are $(sinfo -h -o %R | sort -u | paste -sd' '); mend SITE_PARTITION of site '$site'"; return
    fi
    if [[ $SITE_TIME =~ ^[0-9]+:[0-9]+$ ]]; then warn time "SITE_TIME=$SITE_TIME means minutes and seconds to SLURM; for hours write $SITE_TIME:00"; fi
    if (($(minutes "$limit") < $(minutes "$SITE_TIME"))); then fail limit "$SITE_PARTITION ends jobs after $limit, the profile asks for $SITE_TIME: mend SITE_TIME; a training requeues itself"; fi
    ok partition "$SITE_PARTITION, time limit $limit, the profile asks for $SITE_TIME"
    if sinfo -h -p "$SITE_PARTITION" -o %G | grep -q gpu; then ok gres "$(sinfo -h -p "$SITE_PARTITION" -o %G | sort -u | paste -sd' ')"; else fail gres "partition $SITE_PARTITION has no GPUs: mend SITE_PARTITION"; fi
    flags=$(scontrol show config 2>/dev/null | awk '/^JobRequeue/ {print $3}') || true
    if [[ $flags == 0 ]]; then warn requeue "jobs are not requeued here by default; the job files ask for it. Where that is refused, submit again by hand"; else ok requeue allowed; fi
}

check_run() { # CONFIG RUN [OVERRIDE...]
    local run_dir cache archive
    if ! run_dir=$(fact run "$@" 2>&1); then fail settings "$run_dir"; return; fi
    ok settings "$1, run folder $run_dir"
    until [[ -d $run_dir ]]; do run_dir=$(dirname "$run_dir"); done
    if [[ -w $run_dir ]]; then ok results "may be written"; else fail results "cannot write to $run_dir: mend output.results, or its rights"; fi
    cache=$(fact cache "$@")
    archive=$("${within[@]}" python -c 'import sys; from nlbs_cvae.settings import load_settings as l; d = l(sys.argv[1], sys.argv[3:]).data; print(d.archive, end="" if not d.phantom else " (a phantom)")' "$@")
    if [[ -f $cache/cache.json ]]; then ok data "prepared: $cache, $(du -sh "$cache" | cut -f1)"
    elif [[ -d $archive ]]; then warn data "$archive is there, not prepared yet: slurm/submit.sh prepare $1 does it without holding a GPU"
    elif [[ $archive == *phantom\) ]]; then ok data "$archive will be drawn"
    else fail data "neither $cache nor $archive can be seen from $(uname -n): transfer one, or mend data.cache, data.archive"; fi
    if [[ -n ${SLURM_JOB_ID:-} ]]; then return 0; fi
    if said=$("$root/slurm/submit.sh" --site "$site" --dry-run train "$@" 2>&1); then ok job "SLURM takes it:$(grep 'to start at' <<<"$said" | sed 's/sbatch: Job [0-9]*//')"; else fail job "$(grep -v '^sbatch --' <<<"$said" | head -n 1)"; fi
}

site='' node=''
options 'site= node' "$@"
shift "$taken"
load_site "$site"
if [[ -n $node ]]; then
    exec srun --partition="$SITE_PARTITION" ${SITE_ACCOUNT:+--account="$SITE_ACCOUNT"} ${SITE_QOS:+--qos="$SITE_QOS"} --gres=gpu:1 --cpus-per-task=2 --mem=8G \
        --time=10 --job-name=nlbs-cvae-check "$root/slurm/check.sh" --site "$site" "$@"
fi
check_modules
check_glibc
check_room
check_slurm
if check_python; then
    check_gpu
    if (($#)); then check_run "$1" "${2:-check}" "${@:3}"; fi
fi
exit "$failed"
