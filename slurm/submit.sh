#!/usr/bin/env bash
# Submit a job:  slurm/submit.sh [options] JOB CONFIG [RUN] [more]
#
#   submit.sh train hpc_training_config first data.archive=/data/nlbs   train (or go on with) the run `first`
#   submit.sh --evaluate train my.yaml second                           ... and evaluate it when it has finished
#   submit.sh --nodes 2 --gpus 4 train_multi my.yaml third              several GPUs and nodes
#   submit.sh --array 1-16 prepare my.yaml                              prepare the archive in 16 shards
#   submit.sh evaluate my.yaml first                                    metrics and report of a finished run
#   submit.sh --array 0-9 generate my.yaml first --n 64 --conditions view=MLO    ten seeds
#   submit.sh --array 1-3 generate my.yaml first @settings.txt          a line of options for each task
#
# JOB is the name of a file slurm/JOB.slurm, CONFIG a settings file or its name, RUN the name of the run. What follows is
# passed on: settings as block.key=value, for generate the options of nlbs_generate. Relative paths are yours.
#
#   --site NAME     profile in slurm/sites/, or a file (default: the one that slurm/setup.sh was given)
#   --evaluate      after a training: submit its evaluation, which waits for the training to finish (afterok)
#   --after ID      wait for that job to succeed
#   --array SPEC    tasks, such as 1-16 or 0-9%4
#   --nodes N       of train_multi (default: 2)
#   --gpus N        of each node (default: the profile's)
#   --time LIMIT    of one start (default: the profile's for trainings, the job file's for the others)
#   --dry-run       print the sbatch line, ask SLURM whether it would take it, submit nothing
#   --help          this
#
# Account, partition, QOS and mail come from the profile; the log goes into the run's folder, logs/JOB-ID.out. The ids of what
# was submitted are printed on the last lines, one a line.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

check_request() { # JOB CONFIG [RUN] [MORE...]: sets job, config, run, more, run_dir
    job=${1:-} config=${2:-} run=${3:-}
    [[ -n $config ]] || die "give JOB and CONFIG; $me --help shows examples"
    [[ $job != */* && -f $root/slurm/$job.slurm ]] || die "no job file slurm/$job.slurm: the jobs are $(cd "$root/slurm" && printf '%s ' *.slurm | sed 's/\.slurm//g')"
    if [[ $job == prepare ]]; then run=prepare; more=("${@:3}"); else more=("${@:4}"); fi
    [[ -n $run ]] || die "give the name of the run after $config; $me --help shows examples"
    [[ $run == *=* ]] || named run "$run" # a setting in its place is named below
    [[ -z $evaluate || $job == train* ]] || die "--evaluate follows a training, not '$job'"
    overrides=()
    if [[ $job != generate ]]; then overrides=(${more[@]+"${more[@]}"}); fi
    run_dir=$(fact run "$config" "$run" ${overrides[@]+"${overrides[@]}"}) || exit 2
    if [[ $job == evaluate && -z $after || $job == generate ]]; then
        [[ -f $run_dir/settings.yaml ]] || die "no run $run_dir: train it first"
    fi
    not_in_use
}

not_in_use() { # a second training of the same run would end at once, in the queue: say so now
    local holder
    holder=$(field "$run_dir/lock.json" job)
    if [[ -n $holder ]] && squeue -h -j "$holder" 2>/dev/null | grep -q .; then
        die "$run_dir is in use by job $holder; wait for it, scancel it, or take another name"
    fi
}

sbatch_line() { # JOB: sets `line`, with what the profile says about such a job
    local partition=$SITE_PARTITION count=${gpus:-$SITE_GPUS} name=$SITE_JOB-$1 limit=$time
    if [[ $1 == train* ]]; then name=$SITE_JOB limit=${time:-$SITE_TIME}; fi
    line=(sbatch --parsable --job-name="$name" --output="$logs/$1-%j.out")
    if [[ -n $limit ]]; then line+=(--time="$limit"); fi
    if [[ $1 == train_multi ]]; then line+=(--nodes="$nodes" --ntasks-per-node="${count##*:}" --cpus-per-task="$SITE_CPUS" ${SITE_MEM:+--mem="$(memory "$SITE_MEM" "${count##*:}")"}); fi
    if [[ $1 == prepare ]]; then partition=$SITE_CPU_PARTITION; else line+=(--gres="gpu:$count"); fi
    if [[ $1 == train ]]; then line+=(--cpus-per-task="$SITE_CPUS" ${SITE_MEM:+--mem="$SITE_MEM"}); fi
    if [[ -n $partition ]]; then line+=(--partition="$partition"); fi
    if [[ -n $SITE_ACCOUNT ]]; then line+=(--account="$SITE_ACCOUNT"); fi
    if [[ -n $SITE_QOS ]]; then line+=(--qos="$SITE_QOS"); fi
    if [[ -n $SITE_MAIL ]]; then line+=(--mail-user="$SITE_MAIL" --mail-type="END,FAIL,REQUEUE"); fi
    if [[ -n $array && $1 == "$job" ]]; then line+=(--array="$array" --output="$logs/$1-%A_%a.out"); fi
}

submit() { # JOB DEPENDENCY ARGUMENTS...: print the line; submit, or ask whether it would be taken; sets `id`
    local name=$1 wait_for=$2
    sbatch_line "$name"
    if [[ -n $wait_for ]]; then line+=(--dependency="afterok:$wait_for" --kill-on-invalid-dep=yes); fi
    line+=("$root/slurm/$name.slurm" "${@:3}")
    shown "${line[@]}"
    if [[ -z $dry_run ]]; then
        id=$("${line[@]}") || die "SLURM did not take the job; what it says above names the option: see site '$site' and slurm/check.sh"
        id=${id%%;*}
    else
        id=ID
        if [[ $wait_for != ID ]]; then "${line[@]/--parsable/--test-only}" || die "SLURM would not take this job"; fi
    fi
}

site='' evaluate='' after='' array='' nodes=2 gpus='' time='' dry_run=''
options 'site= evaluate after= array= nodes= gpus= time= dry-run' "$@"
shift "$taken"
load_site "$site"
if [[ -n $time ]]; then time=$(limit "$time") || exit 2; fi
load_modules
find_python
check_request "$@"
export NLBS_ROOT=$root NLBS_SITE=$site
logs=$run_dir/logs
umask 077 # the jobs' too: their logs name the node and its folders
# SLURM takes a job whose log has no folder, and fails it later without a word
[[ -n $dry_run ]] || fact made "$config" "$run" ${overrides[@]+"${overrides[@]}"} >/dev/null
arguments=("$config" "$run" ${more[@]+"${more[@]}"})
submit "$job" "$after" "${arguments[@]}"
ids=("$id")
if [[ -n $evaluate ]]; then
    submit evaluate "$id" "${arguments[@]}"
    ids+=("$id")
fi
[[ -n $dry_run ]] || printf '%s\n' "${ids[@]}"
