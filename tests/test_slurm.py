"Every job file, unchanged, on a real SLURM on this host: done, cut and gone on with, refused in words."
import re, subprocess

import pytest
from project import ROOT
from slurm_cluster import LONG, start, stop

pytestmark = pytest.mark.needs('slurm')

@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    "One node that claims four GPUs, so that jobs of different tests need not wait for each other."
    up = start(tmp_path_factory.mktemp('cluster'), 17000)
    yield up
    stop(up)

@pytest.fixture(scope='module')
def first(cluster):
    "A run trained and evaluated by the queue: its jobs."
    return cluster.submit('--evaluate', 'train', 'quick_config', 'first')

def test_the_header_is_the_agreed_one():
    text = (ROOT/'slurm'/'train.slurm').read_text()
    for option in ('partition=gpu', 'gres=gpu:1', 'cpus-per-task=8', 'mem=32G', 'time=24:00:00', 'requeue', 'open-mode=append'):
        assert f'#SBATCH --{option}\n' in text

def test_training_then_evaluation(cluster, first):
    assert 'Dependency' in cluster('squeue', '-h', '-j', first[1], '-o', '%r', check=False).stdout or cluster.status('first')
    assert cluster.ended(*first) == ['COMPLETED', 'COMPLETED']
    run = cluster.place/'results'/'first'
    assert cluster.status('first')['job'] == first[0] and cluster.status('first')['state'] == 'finished'
    assert 'run is finished, exit status 0' in cluster.log(first[0], 'first')
    for made in ('train.ipynb', 'evaluate.ipynb', 'metrics/evaluation_report.pdf', 'model/model.safetensors'): assert (run/made).exists()
    assert {p.name for p in cluster.place.iterdir() if not p.is_symlink()} == {'data', 'results'}, 'nothing lies outside the run'

def test_cut_requeued_resumed_the_same(cluster, first):
    "USR1, as SLURM sends it ahead of the time limit; the same weights as the run that nobody cut, in another site's job. The monitor at each stage."
    def monitor(): return cluster('slurm/monitor.sh', 'cut').stdout
    cluster.ended(first[0]) # the archive is there, and prepared
    whole = cluster.sbatch('slurm/train_asuka.slurm', 'quick_config', 'whole', *LONG)
    (cluster.place/'results'/'cut'/'logs').mkdir(parents=True)
    cut = cluster.sbatch('--hold', '--output=results/cut/logs/train-%j.out', 'slurm/train.slurm', 'quick_config', 'cut', *LONG, NLBS_STAGE='always')
    (cluster.place/'results'/'cut'/'logs'/f'train-{cut}.out').touch()
    assert f'job {cut}  PENDING (JobHeldUser)' in monitor() and 'run  not begun' in monitor()
    cluster('scontrol', 'release', cut)

    cluster.in_epoch(cut, 'cut', 3)
    assert (read := cluster.images(cut)) and all(re.fullmatch(r'/tmp/nlbs\.\w+/cache/images.npy', o) for o in read)
    assert re.search(rf'job {cut}  RUNNING on n1, .*of 1-00:00:00\n', shown := monitor()), shown
    assert re.search(r'run  running, phase autoencoder, epoch \d+ of 63, step \d of 4, loss \d.*\nleft 0:0', shown), shown
    again = cluster('slurm/submit.sh', 'train', 'quick_config', 'cut', *LONG, check=False)
    assert again.returncode and f'is in use by job {cut}' in again.stderr

    cluster('scancel', '--batch', '--signal=USR1', cut)
    cluster.until(lambda: cluster.status('cut')['state'] == 'interrupted')
    assert 'next the same sbatch line goes on' in monitor()
    assert cluster.ended(cut, whole) == ['COMPLETED', 'COMPLETED']
    log = cluster.log(cut, 'cut')
    assert 'start 1' in log and f'requeue job {cut}' in log and 'start 2' in log, log
    assert log.count('prepared images staged') == 2
    assert cluster.weights('cut') == cluster.weights('whole')
    assert (cluster.place/'results'/'cut'/'train.001.ipynb').exists(), 'the first attempt is kept'
    assert f'job {cut}  COMPLETED, exit 0:0' in monitor() and 'run  finished' in monitor()

def test_the_check_knows_the_cluster(cluster, first):
    "From the login node, and with the eyes of a GPU node."
    cluster.ended(first[0])
    for more, said in ((), 'job        SLURM takes it: to start at'), (('--node',), 'data       prepared: '):
        shown = cluster('slurm/check.sh', *more, 'quick_config', 'first').stdout
        for found in ('partition  gpu, time limit infinite', 'gres       gpu:4', 'requeue    allowed', 'results    may be written', said):
            assert f'ok    {found}' in shown, shown
        assert 'FAIL' not in shown

def test_a_cancelled_job_stays_cancelled(cluster, first):
    "It is saved, and comes back only when it is submitted again."
    cluster.ended(first[0])
    job = cluster.sbatch('slurm/train.slurm', 'quick_config', 'cancelled', *LONG)
    cluster.in_epoch(job, 'cancelled', 2)
    cluster('scancel', job)
    assert cluster.ended(job) == ['CANCELLED'] and cluster.status('cancelled')['state'] == 'interrupted'
    other = cluster.sbatch('slurm/train.slurm', 'quick_config', 'cancelled', *LONG)
    assert cluster.ended(other, job) == ['COMPLETED', 'CANCELLED']

def test_shards_prepare_one_cache(cluster, first):
    "Three tasks together make the cache that one process makes."
    cluster.ended(first[0])
    job, = cluster.submit('--array', '1-3', 'prepare', 'quick_config', 'data.cache=data/sharded')
    assert cluster.ended(job) == ['COMPLETED']
    made = [re.search('"fingerprint": "(.+)"', (cluster.place/'data'/o/'cache.json').read_text())[1] for o in ('sharded', 'quick-cache-32')]
    assert made[0] == made[1]
    assert [f'shard {k}/3\n' in cluster.log(f'{job}_{k}', 'prepare', 'prepare') for k in (1, 2, 3)] == [True]*3

def test_an_array_generates(cluster, first):
    "A seed a task; or a line of options a task."
    cluster.ended(first[0])
    seeds, = cluster.submit('--array', '0-1', 'generate', 'quick_config', 'first', '--n', 2, '--steps', 2)
    (cluster.place/'lines.txt').write_text('--n 1 --steps 2\n--n 3 --steps 2 --conditions view=MLO\n')
    lines, = cluster.submit('--array', '2-2', 'generate', 'quick_config', 'first', '@lines.txt')
    assert cluster.ended(seeds, lines) == ['COMPLETED', 'COMPLETED']
    made = cluster.place/'results'/'first'/'generated'
    images = {o: [p.read_bytes() for p in sorted((made/o).rglob('*.png')) if 'sheet' not in p.name] for o in '012'}
    assert [len(images[o]) for o in '012'] == [2, 2, 3] and images['0'] != images['1']
    assert (made/'2'/'manifest.csv').read_text().count('MLO') == 3
    (cluster.place/'lines.txt').unlink()

@pytest.fixture(scope='module')
def refused(cluster, first, tmp_path_factory):
    "Jobs that can't go well, all submitted at once: {name: id}."
    cluster.ended(first[0])
    small = tmp_path_factory.mktemp('full')
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', small], check=True)
    profile = cluster.place/'data'/'module.env'
    profile.write_text('SITE_MODULES=no_such_module\n')
    def train(run, *more, **env): return cluster.sbatch('slurm/train.slurm', 'quick_config', run, *more, **env)
    yield dict(gpu=train('b1', NLBS_DEVICE=''), data=train('b2', 'data.archive=/not/mounted', 'data.phantom=0'),
               disk=train('b3', f'output.results={small}'), module=train('b4', NLBS_SITE=str(profile)),
               key=train('b5', 'training.epochs=3'), run=cluster.sbatch('slurm/evaluate.slurm', 'quick_config', 'b6'),
               config=cluster.sbatch('slurm/train.slurm', 'none.yaml', 'b7'), name=cluster.sbatch('slurm/train.slurm', 'quick_config'))
    subprocess.run(['umount', small])

@pytest.mark.parametrize('what, said', [
    ('gpu', 'no GPU on n1 that torch can use; slurm/check.sh says why'),
    ('data', "the archive: no such folder; give the archive's (setting data.archive)"),
    ('disk', 'less than 1 GiB free on this disk (16 MiB)'),
    ('module', 'wants modules (no_such_module), but there is no module command on n1'),
    ('key', "unknown setting training.epochs"),
    ('run', 'b6'),
    ('config', "no settings file 'none.yaml'"),
    ('name', 'give the name of the run'),
])
def test_a_job_that_fails_says_why(cluster, refused, what, said):
    assert cluster.ended(job := refused[what]) == ['FAILED']
    log = '\n'.join(p.read_text() for p in cluster.place.glob(f'*-{job}.out'))
    assert said in log and 'Traceback' not in log, log

def test_a_run_in_use_is_refused_in_the_queue_too(cluster, first):
    cluster.ended(first[0])
    holder = cluster.sbatch('slurm/train.slurm', 'quick_config', 'used', *LONG)
    cluster.in_epoch(holder, 'used', 1)
    second = cluster.sbatch('slurm/train.slurm', 'quick_config', 'used', *LONG)
    assert cluster.ended(second) == ['FAILED'] and f'this run is in use by job {holder} on n1' in cluster.log(second, name='nlbs-cvae')
    assert cluster.status('used')['state'] == 'running', 'the run itself is not disturbed'
    cluster('scancel', holder)
    cluster.ended(holder)

@pytest.mark.parametrize('args, profile, said', [
    (('train', 'quick_config', 'x'), 'SITE_PARTITION=nowhere', 'invalid partition specified: nowhere'),
    (('train', 'quick_config', 'x'), 'SITE_GPUS=99', 'Requested node configuration is not available'),
    (('train', 'none.yaml', 'x'), '', "no settings file 'none.yaml'"),
    (('trian', 'quick_config', 'x'), '', "no job file slurm/trian.slurm: the jobs are evaluate generate prepare train"),
    (('train', 'quick_config'), '', 'give the name of the run'),
    (('train', 'quick_config', 'data.workers=0'), '', "'data.workers=0' is no name of a run"),
    (('evaluate', 'quick_config', 'x'), '', 'x: train it first'),
])
def test_a_submission_that_fails_says_why(cluster, tmp_path, args, profile, said):
    (tmp_path/'site.env').write_text(profile + '\n')
    for dry in ('--dry-run',), ():
        res = cluster('slurm/submit.sh', '--site', tmp_path/'site.env', *dry, *args, check=False)
        assert res.returncode and said in res.stderr, res.stderr
