#!/usr/bin/env bash
# Stop the cluster that up.sh started in $SLURM_TEST_DIR, its jobs first. Idempotent.
set -uo pipefail
D=${SLURM_TEST_DIR:-/tmp/slurm-test}
export SLURM_CONF=$D/slurm.conf
[[ -d $D ]] || exit 0
if [[ -L $D || ! -O $D || $(stat -c %A "$D") == ?????w* || $(stat -c %A "$D") == ????????w* ]]; then # whom it would kill, others could say
  echo "down.sh: $D is another user's, a link, or open to others: nothing is stopped by what lies in it" >&2; exit 2
fi
alive() { # NAME: is the process in $D/NAME.pid that daemon, and no zombie? Sets pid.
  pid=$(cat "$D/$1.pid" 2>/dev/null) && [[ $(readlink "/proc/$pid/exe") =~ /${1%%-*}(-wlm)?$ ]]
}
stop() { # NAME: SIGTERM, after 10 s SIGKILL
  local pid t
  alive "$1" && kill "$pid"
  for ((t = 0; t < 100; t++)); do alive "$1" || break; sleep 0.1; done
  alive "$1" && kill -KILL "$pid"
  rm -f "$D/$1.pid"
}
if alive slurmctld; then # slurmd leaves running jobs behind when it stops
  squeue -h -o %A | sort -u | xargs -r scancel 2>/dev/null
  for ((t = 0; t < 150; t++)); do [[ -z $(squeue -h 2>/dev/null) ]] && break; sleep 0.1; done
fi
for f in "$D"/slurmd-*.pid; do [[ -e $f ]] && stop "$(basename "$f" .pid)"; done
for p in /proc/[0-9]*; do # the steps of this cluster that are still there
  [[ $(readlink "$p/exe") == */slurmstepd* ]] && grep -qszxF "SLURM_CONF=$SLURM_CONF" "$p/environ" && kill -KILL "${p#/proc/}"
done
stop slurmctld; stop slurmdbd; stop mariadbd; stop munged
exit 0
