#!/usr/bin/env bash
# Shows on a running cluster of two nodes everything that a training job relies on, in about a minute:
# SLURM_TEST_NODES=2 slurm/testing/up.sh && slurm/testing/selftest.sh
# shellcheck disable=SC2016 # conditions are evaluated by `ok`
set -uo pipefail
export SLURM_CONF=${SLURM_CONF:-/tmp/slurm-test/slurm.conf}
w=$(mktemp -d); cd "$w" || exit 1; pass=0; fail=0
ok() { if eval "$2"; then pass=$((pass + 1)); echo "ok   $1"; else fail=$((fail + 1)); echo "FAIL $1: $2"; fi; }
state() { squeue -h -t all -j "$1" -o %T | sort -u | xargs; }
ended() { local t; for ((t = 0; t < ${2:-300}; t++)); do [[ -z $(squeue -h -j "$1" 2>/dev/null) ]] && return; sleep 0.2; done; return 1; }
running() { local t; for ((t = 0; t < 100; t++)); do [[ $(state "$1") == RUNNING ]] && sleep 1 && return; sleep 0.2; done; return 1; }
cat >job <<'E'
#!/bin/bash
#SBATCH --job-name=train --partition=gpu --gres=gpu:1 --cpus-per-task=8 --mem=32G --time=24:00:00
#SBATCH --signal=B:USR1@60 --requeue --open-mode=append --output=%x-%j.out
id=$SLURM_JOB_ID; [[ -n ${SLURM_ARRAY_JOB_ID:-} ]] && id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
again() { kill -TERM "$pid"; wait "$pid"; echo "requeue $id"; scontrol requeue "$id"; exit 0; }
trap again USR1
echo "run ${SLURM_RESTART_COUNT:-0} task ${SLURM_ARRAY_TASK_ID:-none}"
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c 'n=$(cat n-'"$id"' 2>/dev/null || echo 0); echo "from $n"; trap "echo saved $n; exit 0" TERM
  while ((n < '"${STEPS:-10}"')); do sleep .2; n=$((n+1)); echo $n >n-'"$id"'; done; echo "finished $n"' & pid=$!
wait "$pid"
E
ok "two idle nodes in gpu" '[[ $(sinfo -h -N -p gpu -t idle -o %N | xargs) == "n1 n2" ]]'
ok "sbatch --test-only accepts the job" 'sbatch --test-only job 2>&1 | grep -q "to start at"'
ok "sbatch --test-only refuses too many GPUs" '! sbatch --test-only --gres=gpu:9 job 2>/dev/null'
j=$(sbatch --parsable job); ended "$j"
ok "the job completes" '[[ $(state $j) == COMPLETED ]] && grep -q "finished 10" train-$j.out'
ok "scontrol show job" 'scontrol -o show job $j | grep -q "JobState=COMPLETED .*Requeue=1 Restarts=0.* ExitCode=0:0"'
ok "sacct, or sacct -c" '[[ $({ sacct -X -n -P -j $j -o State || sacct -c -n -P -j $j -o State; } 2>/dev/null) == COMPLETED ]]'
a=$(STEPS=300 sbatch --parsable job); b=$(STEPS=300 sbatch --parsable job); c=$(sbatch --parsable job); running "$a"; running "$b"
ok "a third job waits for a GPU" '[[ $(squeue -h -j $c -o "%T %r") =~ ^PENDING\ (Resources|Priority)$ ]]'
scancel "$a" "$b"; ended "$a"; ended "$b"; ended "$c"
ok "scancel" '[[ $(state $a) == CANCELLED && $(state $c) == COMPLETED ]]'
j=$(STEPS=40 sbatch --parsable job); running "$j"; scancel --batch --signal=USR1 "$j"; ended "$j"
ok "USR1: save, requeue, resume, finish" '[[ $(state $j) == COMPLETED && $(grep -c "^run [01]" train-$j.out) == 2 ]] && grep -q "from [1-9]" train-$j.out && grep -q "finished 40" train-$j.out'
ok "it restarted once" 'scontrol -o show job $j | grep -q Restarts=1'
j=$(STEPS=40 sbatch --parsable --array=0-1%1 --output=%x-%A_%a.out job); ended "$j"
ok "array 0-1%1, one at a time" '[[ $(state $j) == COMPLETED && $(cat train-"$j"_*.out | grep -c "finished 40") == 2 && $(stat -c %Y train-"$j"_1.out) -gt $(stat -c %Y train-"$j"_0.out) ]]'
a=$(sbatch --parsable job); b=$(sbatch --parsable -d "afterok:$a" job); c=$(sbatch --parsable -d singleton job)
ok "dependencies wait" '[[ $(squeue -h -j $b,$c -o %r | sort -u) == Dependency ]]'
ended "$c"; ok "afterok and singleton run" '[[ $(state $b) == COMPLETED && $(state $c) == COMPLETED ]]'
j=$(sbatch --parsable -p gpu -N2 --ntasks-per-node=1 --gres=gpu:1 -c8 --mem=32G -o two.out --wrap 'echo head $(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)
  srun -c8 bash -c "echo rank \$SLURM_PROCID of \$SLURM_NTASKS node \$SLURM_NODEID local \$SLURM_LOCALID \$(hostname) gpu \$CUDA_VISIBLE_DEVICES"'); ended "$j"
ok "srun on two nodes" '[[ $(sort two.out | xargs) == "head n1 rank 0 of 2 node 0 local 0 n1 gpu 0 rank 1 of 2 node 1 local 0 n2 gpu 0" ]]'
j=$(STEPS=400 sbatch --parsable job); running "$j"; scontrol update "jobid=$j" timelimit=1
for ((t = 0; t < 60; t++)); do grep -q '^requeue' "train-$j.out" && break; sleep 1; done
ok "USR1 ahead of the time limit" 'grep -q "^requeue" train-$j.out'; scancel "$j"
echo "$pass passed, $fail failed"; [[ $fail == 0 ]] && rm -rf "$w"
