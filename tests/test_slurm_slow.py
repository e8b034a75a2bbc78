"What takes minutes on a real SLURM: its own time limit, preemption, a node that dies, two nodes, accounts, refused requeues."
import os, re, shutil, signal
from pathlib import Path

import pytest
from slurm_cluster import APPTAINER, LONG, processes_of, programs, start, stop

pytestmark = [pytest.mark.needs('slurm'), pytest.mark.slow]

PREEMPTION = """PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdTimeout=10
PartitionName=DEFAULT GraceTime=20
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
PartitionName=DEFAULT GraceTime=20 PriorityTier=1"""
LONGER = tuple('training.num_epochs=250' if o.startswith('training.num_epochs') else o for o in LONG)

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "Two nodes of a GPU each, a partition that preempts, a run of seconds that has prepared the data."
    up = start(tmp_path_factory.mktemp('two'), 17100, nodes=2, gpus=1, cpus=8, mem=65536, extra=PREEMPTION)
    assert up.ended(up.sbatch('slurm/train.slurm', 'quick_config', 'first')) == ['COMPLETED']
    yield up
    stop(up)

@pytest.fixture(scope='module')
def whole(two):
    "The run that nobody disturbs."
    assert two.ended(two.sbatch('slurm/train.slurm', 'quick_config', 'whole', *LONG)) == ['COMPLETED']
    return two.weights('whole')

def test_two_nodes_one_process_each(two):
    job, = two.submit('train_multi', 'quick_config', 'multi')
    assert two.ended(job) == ['COMPLETED'], two.log(job, 'multi', 'train_multi')
    assert '2 processes' in two.log(job, 'multi', 'train_multi')
    assert two.weights('multi')

def test_two_nodes_cut_and_gone_on_with(two):
    "The one that is cut reads a copy of the prepared images on each node's own disk; the weights are the same."
    for run, stage in ('together', 'never'), ('parted', 'always'):
        job, = two.submit('train_multi', 'quick_config', run, *LONG, NLBS_STAGE=stage)
        two.until(lambda: two.status(run).get('epoch', 0) >= 2)
        read = two.images(job)
        if run == 'parted': two('scancel', '--batch', '--signal=USR1', job)
        assert two.ended(job) == ['COMPLETED'], two.log(job, run, 'train_multi')
        if run == 'together': assert read == {str(two.place/'data'/'quick-cache-32'/'images.npy')}
    log = two.log(job, run, 'train_multi')
    assert 'start 2' in log and [len(re.findall(f'staged: .* on {n}\n', log)) for n in ('n1', 'n2')] == [2, 2], log
    assert len(read) == 2 and all(re.fullmatch(r'/tmp/nlbs\.\w+/cache/images.npy', o) for o in read)
    assert not any(Path(o).exists() for o in read), 'the copies go with the job'
    assert two.weights('together') == two.weights('parted')

def test_the_real_time_limit(two):
    "SLURM itself signals, five minutes ahead of a limit that comes while a 24-hour job runs."
    job = two.sbatch('slurm/train.slurm', 'quick_config', 'limited', *LONGER)
    two.in_epoch(job, 'limited', 2)
    minutes = int(two('squeue', '-h', '-j', job, '-o', '%M').stdout.split(':')[-2])
    two('scontrol', 'update', f'jobid={job}', f'timelimit={minutes + 4}')
    two.until(lambda: f'requeue job {job}' in two.log(job, name='nlbs-cvae'))
    cut = two.status('limited')['epoch']
    two('scontrol', 'update', f'jobid={job}', 'timelimit=60')
    two.until(lambda: 'start 2' in two.log(job, name='nlbs-cvae') and two.status('limited')['epoch'] > cut)
    two('scancel', job)
    assert two.ended(job) == ['CANCELLED']

def test_preempted_requeued_resumed(two, whole):
    lasting = two.sbatch('--hold', '--time=1', '--nodes=2', '--ntasks-per-node=1', '--gres=gpu:1', '--partition=urgent', '--output=/dev/null', '--wrap=srun sleep 5')
    job = two.sbatch('slurm/train.slurm', 'quick_config', 'preempted', *LONG)
    two.in_epoch(job, 'preempted', 2)
    two('scontrol', 'release', lasting)
    assert two.ended(job, lasting) == ['COMPLETED', 'COMPLETED']
    assert 'start 2' in two.log(job, name='nlbs-cvae') and two.weights('preempted') == whole

def test_no_right_to_requeue(two, whole):
    "It is saved, the job fails with what to do, and the same line goes on."
    job = two.sbatch('--no-requeue', 'slurm/train.slurm', 'quick_config', 'unloved', *LONG)
    two.in_epoch(job, 'unloved', 2)
    two('scancel', '--batch', '--signal=USR1', job)
    assert two.ended(job) == ['FAILED'] and 'it is saved: submit it again to go on' in two.log(job, name='nlbs-cvae')
    assert two.ended(two.sbatch('slurm/train.slurm', 'quick_config', 'unloved', *LONG)) == ['COMPLETED']
    assert two.weights('unloved') == whole

def test_one_task_of_an_array_is_requeued_alone(two):
    job, = two.submit('--array', '0-1', 'generate', 'quick_config', 'first', '--n', 40, '--steps', 60, '--batch_size', 1)
    two.until(lambda: (two.place/'results'/'first'/'generated'/'1').exists())
    two('scancel', '--batch', '--signal=USR1', f'{job}_1')
    assert two.ended(job) == ['COMPLETED']
    log = {o: two.log(f'{job}_{o}', 'first', 'generate') for o in '01'}
    assert 'start 2' in log['1'] and 'start 2' not in log['0']

def test_a_node_dies(two, whole):
    "Its processes and its daemon are gone without a signal: the job comes up on the other node and goes on from what was saved."
    job = two.sbatch('slurm/train.slurm', 'quick_config', 'orphan', *LONG, 'training.save_minutes=0')
    two.in_epoch(job, 'orphan', 3)
    node = (two.place/'results'/'orphan'/'private'/'host').read_text().strip()
    daemon = int(Path(two.env['SLURM_TEST_DIR'], f'slurmd-{node}.pid').read_text())
    for pid in [daemon, *processes_of(two, job)]:
        try: os.kill(pid, signal.SIGKILL)
        except ProcessLookupError: pass
    assert two.ended(job) == ['COMPLETED']
    log = two.log(job, name='nlbs-cvae')
    assert len({*re.findall(r'start \d, on (n\d)', log)}) == 2 and two.weights('orphan') == whole, log

def test_a_job_in_a_container(two, tmp_path):
    "With a stand-in for apptainer that runs its commands here, and no .venv."
    (tmp_path/'site.env').write_text(f'SITE_CONTAINER={tmp_path}/my.sif\n')
    (tmp_path/'my.sif').touch()
    job = two.sbatch('slurm/train.slurm', 'quick_config', 'contained', NLBS_VENV='/none', NLBS_SITE=str(tmp_path/'site.env'), CALLS=str(tmp_path/'calls'),
                     PATH=programs(tmp_path/'bin', apptainer=APPTAINER))
    assert two.ended(job) == ['COMPLETED'] and two.weights('contained') == two.weights('first')
    assert (tmp_path/'calls').read_text().count(f'--env PYTHONPATH={two.place} {tmp_path}/my.sif python ') == 3

def test_accounts(tmp_path):
    "Where accounts are kept: one that doesn't exist is named, and the monitor asks sacct."
    if not shutil.which('slurmdbd', path=f"{os.environ['PATH']}:/usr/sbin"): pytest.skip('no slurmdbd: SLURM_TEST_ACCT=1 slurm/testing/up.sh --install')
    up = start(tmp_path, 17200, acct=1, extra='AccountingStorageEnforce=associations')
    try:
        up('sacctmgr', '-i', 'add', 'account', 'lab')
        up('sacctmgr', '-i', 'add', 'user', 'root', 'account=lab', check=False)
        (tmp_path/'site.env').write_text('SITE_ACCOUNT=nobody\n')
        res = up('slurm/submit.sh', '--site', tmp_path/'site.env', 'train', 'quick_config', 'x', check=False)
        assert res.returncode and 'Invalid account' in res.stderr and 'SLURM did not take the job' in res.stderr, res.stderr
        (tmp_path/'site.env').write_text('SITE_ACCOUNT=lab\n')
        job, = up.submit('--site', tmp_path/'site.env', 'train', 'quick_config', 'x')
        assert up.ended(job) == ['COMPLETED']
        assert 'COMPLETED, exit 0:0' in up('slurm/monitor.sh', 'x').stdout
    finally: stop(up)
