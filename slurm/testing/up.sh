#!/usr/bin/env bash
# Start a throw-away SLURM cluster on this host: munge, slurmctld and N slurmd, without systemd, cgroups, GPUs, a slurm
# user or /etc/slurm. Root. Idempotent; down.sh stops it. All its files are in one folder, found through SLURM_CONF:
#   slurm/testing/up.sh [--install] && export SLURM_CONF=/tmp/slurm-test/slurm.conf && sbatch job
# --install brings the system packages by apt (SLURM, munge, rsync, an ssh server); without it nothing is installed.
set -euo pipefail
D=${SLURM_TEST_DIR:-/tmp/slurm-test} # keep it short: unix sockets live below it (108 bytes)
NODES=${SLURM_TEST_NODES:-1}         # nodes n1..nN, one slurmd each
CPUS=${SLURM_TEST_CPUS:-8}           # what a node claims to have, whatever the host has
MEM=${SLURM_TEST_MEM:-65536}         # MiB
GPUS=${SLURM_TEST_GPUS:-1}           # 1..4
PART=${SLURM_TEST_PARTITION:-gpu}
ACCT=${SLURM_TEST_ACCT:-0}           # 1: slurmdbd on a private MariaDB, so that sacct works
KILLWAIT=${SLURM_TEST_KILLWAIT:-5}   # s from SIGTERM to SIGKILL (Slurm's default: 30)
HOLD=${SLURM_TEST_HOLD:-5}           # s a requeued job is held (default: 120; below 5 is taken as 120)
PORT=${SLURM_TEST_PORT:-16800}       # PORT-2 mariadbd, PORT-1 slurmdbd, PORT slurmctld, PORT+i slurmd of ni
EXTRA=${SLURM_TEST_EXTRA:-}          # more slurm.conf lines, placed before the partition
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
host=$(uname -n); host=${host%%.*}
export SLURM_CONF=$D/slurm.conf SLURM_TEST_DIR=$D PATH=$PATH:/usr/sbin:/sbin

# Root trusts what lies in there: a folder that somebody else has put into /tmp, or can write to, is none of ours.
if ! mkdir -m 711 "$D" 2>/dev/null && [[ ! -d $D || -L $D || ! -O $D || $(stat -c %A "$D") == ?????w* || $(stat -c %A "$D") == ????????w* ]]; then
  echo "up.sh: $D is another user's, a link, or open to others: remove it, or set SLURM_TEST_DIR to a new folder" >&2; exit 2
fi

need=(munge slurmctld slurmd slurm-client); cmds=(munged slurmctld slurmd sbatch)
if ((ACCT)); then need+=(slurmdbd mariadb-server-core mariadb-client-core); cmds+=(slurmdbd mariadbd my_print_defaults); fi
if [[ ${1:-} == --install ]]; then
  need+=(rsync openssh-client openssh-server iproute2)
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
for c in "${cmds[@]}"; do
  command -v "$c" >/dev/null || { echo "up.sh: no $c here; as root, $0 --install brings it" >&2; exit 2; }
done

acct="AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$D/jobcomp.log"
((ACCT)) && acct="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT - 1))
AccountingStoragePass=$D/munge.sock
AccountingStorageTRES=gres/gpu"
conf="ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$D/munge.sock,cred_expire=$HOLD
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool-%n
SlurmctldPidFile=$D/slurmctld.pid
SlurmdPidFile=$D/slurmd-%n.pid
SlurmctldLogFile=$D/slurmctld.log
SlurmdLogFile=$D/slurmd-%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
$acct
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=$KILLWAIT
GresTypes=gpu
NodeName=n[1-$NODES] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((PORT + 1))-$((PORT + NODES))] CPUs=$CPUS RealMemory=$MEM Gres=gpu:$GPUS State=UNKNOWN
$EXTRA
PartitionName=$PART Nodes=ALL Default=YES MaxTime=INFINITE State=UP"

alive() { # NAME: is the process in $D/NAME.pid that daemon, and no zombie?
  local pid; pid=$(cat "$D/$1.pid" 2>/dev/null) && [[ $(readlink "/proc/$pid/exe") =~ /${1%%-*}(-wlm)?$ ]]
}
ready() {
  local i; alive munged && alive slurmctld || return 1
  for ((i = 1; i <= NODES; i++)); do alive "slurmd-n$i" || return 1; done
  ((!ACCT)) || alive slurmdbd || return 1
  [[ $(sinfo -h -N -p "$PART" -t idle,mixed,allocated,completing -o %N 2>/dev/null | wc -l) == "$NODES" ]]
}
wait_for() { # SECONDS COMMAND...
  local t; for ((t = $1 * 10; t > 0; t--)); do "${@:2}" && return; sleep 0.1; done
  echo "up.sh: gave up after $1 s waiting for: ${*:2}" >&2; return 1
}
if [[ -f $SLURM_CONF && $(cat "$SLURM_CONF") == "$conf" ]] && ready; then
  echo "up.sh: already up, SLURM_CONF=$SLURM_CONF"; exit 0
fi
"$here/down.sh"
trap '[[ $? == 0 ]] || { tail -n 15 "$D"/*.log >&2; "$here/down.sh"; }' EXIT

# A clean slate: job ids start at 1 again.
rm -rf "$D"/state "$D"/spool-* "$D"/db "$D"/*.log; mkdir "$D/state"
printf '%s\n' "$conf" >"$SLURM_CONF"
# A GRES called gpu needs File=, another for each GPU; with Count= alone slurmd reports 0.
devs=(/dev/null /dev/zero /dev/full /dev/random); devs=("${devs[@]:0:GPUS}")
(IFS=,; echo "Name=gpu File=${devs[*]}") >"$D/gres.conf"
# Unused, but slurmd initialises the plugin for what it finds in /sys/fs/cgroup, and may die of that; not of v1.
echo 'CgroupPlugin=cgroup/v1' >"$D/cgroup.conf"
# Node names must resolve: jobs do MASTER_ADDR=$(scontrol show hostnames ... | head -n 1).
for ((i = 1; i <= NODES; i++)); do getent hosts "n$i" >/dev/null || echo "127.0.1.$i n$i" >>/etc/hosts; done
[[ -f $D/munge.key ]] || (umask 077; head -c 1024 /dev/urandom >"$D/munge.key")

munged --key-file="$D/munge.key" --socket="$D/munge.sock" --pid-file="$D/munged.pid" \
  --log-file="$D/munged.log" --seed-file="$D/munge.seed" --origin=127.0.0.1
if ((ACCT)); then
  mariadb-install-db --no-defaults --datadir="$D/db" --user=root --auth-root-authentication-method=normal \
    --skip-test-db --force >"$D/mariadb-install.log" 2>&1
  setsid mariadbd --no-defaults --user=root --datadir="$D/db" --socket="$D/db.sock" --pid-file="$D/mariadbd.pid" \
    --bind-address=127.0.0.1 --port=$((PORT - 2)) --skip-grant-tables --skip-networking=0 \
    --log-error="$D/mariadbd.log" </dev/null >/dev/null 2>&1 &
  (umask 077; cat >"$D/slurmdbd.conf") <<CONF
AuthType=auth/munge
AuthInfo=socket=$D/munge.sock
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$((PORT - 1))
SlurmUser=root
PidFile=$D/slurmdbd.pid
LogFile=$D/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT - 2))
StorageUser=root
StorageLoc=slurm
CONF
  db() { (: <>"/dev/tcp/127.0.0.1/$((PORT - 2))") 2>/dev/null; }
  dbd() { sacctmgr -n show cluster >/dev/null 2>&1; }
  wait_for 30 db; slurmdbd; wait_for 30 dbd
fi
slurmctld -c
# In a UTS namespace of its own a node's hostname is its node name, as on a real cluster
# (torchrun's c10d rendezvous decides by it which node is the master).
for ((i = 1; i <= NODES; i++)); do
  if unshare --uts true 2>/dev/null; then unshare --uts sh -c "hostname n$i && exec slurmd -N n$i"; else slurmd -N "n$i"; fi
done
wait_for 30 ready
sinfo -p "$PART" -N -o '%N %P %T %c %m %G'
