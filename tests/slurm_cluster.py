"A SLURM cluster of its own for tests, on this host, and a place from which jobs are submitted to it."
import json, os, subprocess, sys, time
from pathlib import Path

import pytest
from project import ROOT

LONG = ('training.num_epochs=60', 'training.prior_epochs=3', 'output.gallery_every=1000', 'training.save_every=1000',
        'training.tensorboard=false')  # long enough to be cut somewhere: half a minute
THREADS = dict(OMP_NUM_THREADS='1', OMP_WAIT_POLICY='passive', NLBS_DEVICE='cpu', NO_ALBUMENTATIONS_UPDATE='1')

class Cluster:
    "Commands run in `place`, a checkout that consists of links; jobs are waited for with a bound."
    def __init__(self, place, env): self.place, self.env = Path(place), env

    def __call__(self, *cmd, check=True, **env):
        "Run a command as a user at the login node would; its result."
        res = subprocess.run([*map(str, cmd)], cwd=self.place, env={**self.env, **env}, capture_output=True, text=True, timeout=600)
        assert res.returncode == 0 or not check, f'{cmd}: {res.stdout}{res.stderr}'
        return res

    def sbatch(self, *args, **env):
        "Submit; the job's id."
        return self('sbatch', '--parsable', *args, **env).stdout.split(';')[0].strip()

    def submit(self, *args, **env):
        "Submit through slurm/submit.sh; the ids."
        return [o for o in self('slurm/submit.sh', *args, **env).stdout.splitlines() if o.isdigit()]

    def state(self, job):
        "The states of a job and its tasks, a set."
        return {*self('squeue', '-h', '-t', 'all', '-r', '-j', job, '-o', '%T', check=False).stdout.split()}

    def until(self, what, seconds=420, every=.5):
        "Wait until `what()` is true; it is given back."
        end = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < end, f'waited {seconds} s in vain'
            time.sleep(every)
        return found

    def ended(self, *jobs):
        "Wait for jobs to leave the queue; their states, in order (a set for an array of many fates)."
        over = {'COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'PREEMPTED', 'OUT_OF_MEMORY', 'BOOT_FAIL'}
        self.until(lambda: all(self.state(o) <= over for o in jobs))
        return [next(iter(s)) if len(s := self.state(o)) == 1 else s for o in jobs]

    def status(self, run):
        "A run's status.json; {} where it has none yet."
        try: return json.loads((self.place/'results'/run/'status.json').read_text())
        except (FileNotFoundError, ValueError): return {}

    def in_epoch(self, job, run, epoch):
        "Wait until a run is in this epoch; its job must not have ended before."
        def there():
            assert self.state(job) <= {'PENDING', 'RUNNING', 'COMPLETING', 'CONFIGURING'}, self.log(job, run) + self.log(job, name='*')
            return self.status(run).get('epoch', 0) >= epoch
        self.until(there)

    def weights(self, run): return (self.place/'results'/run/'model'/'model.safetensors').read_bytes()

    def log(self, job, run='', name='train'):
        "What a job wrote."
        folder = self.place/'results'/run/'logs' if run else self.place
        return '\n'.join(p.read_text() for p in sorted(folder.glob(f'{name}-{job}*.out')))

def make_place(folder):
    "A checkout that consists of links, so that what runs there writes nothing into the real one."
    for name in ('slurm', 'tools', 'nbs', 'constraints-hpc.txt'): (folder/name).symlink_to(ROOT/name)
    (folder/'.venv').symlink_to(sys.prefix)
    return folder

def start(folder, port, **options):
    "Start a cluster; the environment in which its commands find it."
    if os.geteuid(): pytest.skip('a cluster of its own is started as root alone')
    here = Path(f'/tmp/nlbs-slurm-{port}') # short: sockets lie in it
    size = dict(gpus=4, cpus=64, mem=262144)
    ours = {f'SLURM_TEST_{k.upper()}': str(v) for k, v in {**size, **options, 'dir': here, 'port': port}.items()}
    env = {**{k: v for k, v in os.environ.items() if not k.startswith(('SLURM', 'NLBS_OV'))}, **ours, **THREADS}
    done = subprocess.run([ROOT/'slurm'/'testing'/'up.sh'], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Cluster(make_place(folder), {**env, 'SLURM_CONF': str(here/'slurm.conf')})

def stop(cluster):
    "Stop it, with its jobs."
    subprocess.run([ROOT/'slurm'/'testing'/'down.sh'], env=cluster.env)
