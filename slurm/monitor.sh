#!/usr/bin/env bash
# What a run is doing:  slurm/monitor.sh [options] RUN
#
#   monitor.sh first                     the run results/first (or give its folder)
#   monitor.sh --watch 30 first          again every 30 seconds, until its jobs have left the queue
#   monitor.sh --site asuka --remote first    from your own machine: the same, over ssh (or what RSYNC_RSH says)
#
#   --watch SECONDS  show it again and again
#   --lines N        last lines of the newest log (default: 5)
#   --site NAME      profile, for --remote
#   --remote         run it on the site's login node
#   --help           this
#
# Jobs are those that left a log in the run's folder or that its status names. It needs no accounting and no Python: state
# comes from squeue, else sacct, else scontrol, else the run's own status.json. The GPU is asked on the job's own node.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

jobs_of_run() { # ids, oldest first
    local f
    for f in "$run_dir"/logs/*-[0-9]*.out; do
        f=${f%.out}
        [[ ! $f =~ -([0-9]+)(_[0-9]+)?$ ]] || echo "${BASH_REMATCH[1]}"
    done
    field "$run_dir/status.json" job | sed 's/_.*//'
}

job_state() { # ID: a line, from whoever knows
    local told
    told=$(squeue -h -r -j "$1" -o '%T (%r) on %N, %M of %l' 2>/dev/null | sort | uniq -c | sed 's/^ *1 //; s/(None) //; s/ on ,/,/' || true)
    # shellcheck disable=SC2086 # words
    [[ -n $told ]] || told=$(sacct -X -n -P -j "$1" -o State,ExitCode,Elapsed 2>/dev/null | sort | uniq -c | sed 's/^ *1 //; s/|/, exit /; s/|/, after /' || true)
    [[ -n $told ]] || told=$(scontrol -o show job "$1" 2>/dev/null | sed 's/.*JobState=\([A-Z_]*\).* ExitCode=\([0-9:]*\).*/\1, exit \2/' | sort | uniq -c | sed 's/^ *1 //' || true)
    [[ -n $told ]] || told=$(sacct -c -n -P -j "$1" -o State 2>/dev/null | head -n 1 || true)
    printf '%s\n' "${told:-not in the queue any more}"
}

show_jobs() {
    local id
    for id in $(jobs_of_run | sort -nu); do
        job_state "$id" | sed "s/^/job $id  /"
    done
}

show_gpu() { # asked inside the newest running job
    local id
    id=$(field "$run_dir/status.json" job)
    if [[ -z $id || $(squeue -h -j "$id" -t RUNNING -o %T 2>/dev/null) != RUNNING ]]; then return 0; fi
    timeout 20 srun --jobid="${id}" --overlap -n1 -N1 --cpus-per-task=1 nvidia-smi --format=csv,noheader \
        --query-gpu=index,name,utilization.gpu,memory.used,memory.total,temperature.gpu 2>/dev/null | sed 's/^/GPU /' || echo "GPU  no nvidia-smi on the node"
}

seconds() { # N: as hours and minutes
    if [[ $1 =~ ^[0-9]+$ ]]; then printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); else printf '%s' "${1:-?}"; fi
}

known() { # NAME VALUE [OF]: `, NAME VALUE of OF`, as far as it is known
    [[ -z ${2:-} ]] || printf ', %s' "$1 $2${3:+ of $3}"
}

show_run() {
    local s=$run_dir/status.json state
    if [[ ${run_dir##*/} == prepare ]]; then return; fi # it has jobs and a log, no status
    if [[ ! -f $s ]]; then echo "run  not begun: no status.json in $run_dir"; return; fi
    state=$(field "$s" state)
    echo "run  ${state:-of an unknown state}$(known phase "$(field "$s" phase)")$(known epoch "$(field "$s" epoch)" "$(field "$s" epochs)")$(known step "$(field "$s" step)" "$(field "$s" steps)")$(known loss "$(field "$s" loss)")"
    [[ $state != running || -z $(field "$s" seconds_left_in_phase) ]] || echo "left $(seconds "$(field "$s" seconds_left_in_phase)") in this phase"
    echo "told $(($(date +%s) - $(stat -c %Y "$s"))) s ago by process $(field "$s" process)$(on_host)"
    if [[ $state == failed ]]; then echo "why  $(field "$s" error)"; fi
    if [[ $state == interrupted ]]; then echo "next the same sbatch line goes on with it"; fi
}

show_log() {
    local newest
    [[ -d $run_dir/logs ]] || return 0
    newest=$(find "$run_dir/logs" -maxdepth 1 \( -name '*.out' -o -name training.log \) -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-)
    [[ -n $newest ]] || return 0
    echo "log  ${newest#"$run_dir"/}"
    tail -n "$lines" "$newest" | tr '\r' '\n' | tr -d '\000-\010\013-\037\177' | tail -n "$lines" | cut -c1-200 | sed 's/^/     /'
}

show() { show_jobs; show_gpu; show_run; show_log; }

site='' watch='' lines=5 remote=''
options 'site= watch= lines= remote' "$@"
shift "$taken"
run=${1:-}
[[ -n $run ]] || die "give the name of a run; $me --help shows examples"
[[ -z $remote && $run == */* && -n ${run//[.\/]/} ]] || named run "$run"
if [[ -n $remote ]]; then
    load_site "$site"
    [[ -n $SITE_HOST ]] || die "site '$site' names no SITE_HOST"
    exec ${RSYNC_RSH:-ssh} -t "${SITE_USER:+$SITE_USER@}$SITE_HOST" "cd $(shown "$SITE_FOLDER") && slurm/monitor.sh $(shown ${watch:+--watch "$watch"} --lines "$lines" "$run")"
fi
run_dir=$run
[[ -d $run_dir ]] || run_dir=results/$run
[[ -d $run_dir ]] || die "no run '$run' here: give its folder, or call this from where results/ lies"
show
while [[ -n $watch && -n $(jobs_of_run | sort -nu | paste -sd, | xargs -r squeue -h -o %A -j 2>/dev/null) ]]; do
    sleep "$watch"
    echo
    date
    show
done
