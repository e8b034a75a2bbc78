"A SLURM cluster of its own for tests, on this host, and a place from which jobs are submitted to it."
import json, os, shutil, subprocess, sys, time
from pathlib import Path

import pytest
from project import ROOT

LONG = ('training.num_epochs=60', 'training.prior_epochs=3', 'training.decoder_epochs=0', 'output.gallery_every=1000', 'training.save_every=1000',
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

    def until(self, what, seconds=900, every=.5):
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

    def images(self, job):
        "The files of prepared images that the processes of a job have open: {path}."
        return {line.split()[-1] for p in processes_of(self, job) for line in maps(p) if line.endswith('images.npy')}

    def log(self, job, run='', name='train'):
        "What a job wrote."
        folder = self.place/'results'/run/'logs' if run else self.place
        return '\n'.join(p.read_text() for p in sorted(folder.glob(f'{name}-{job}*.out')))

def processes_of(cluster, job):
    "Process ids on this host that belong to a job of this cluster, its step daemons first."
    found, daemons = [], []
    for p in Path('/proc').glob('[0-9]*'):
        try: env, name = (p/'environ').read_bytes().split(b'\0'), (p/'comm').read_text()
        except OSError: continue
        ours = f"SLURM_CONF={cluster.env['SLURM_CONF']}".encode() in env
        if ours and f'SLURM_JOB_ID={job}'.encode() in env: found.append(int(p.name))
        if ours and 'slurmstepd' in name and f'[{job}.'.encode() in (p/'cmdline').read_bytes(): daemons.append(int(p.name))
    return daemons + found

def maps(process):
    "What a process has in its memory, a line each."
    try: return Path(f'/proc/{process}/maps').read_text().splitlines()
    except OSError: return []

def make_place(folder):
    "A checkout that consists of links, so that what runs there writes nothing into the real one."
    folder.mkdir(exist_ok=True)
    for p in (*(ROOT/o for o in ('slurm', 'tools', 'nbs')), *ROOT.glob('constraints*.txt')): (folder/p.name).symlink_to(p)
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

def run(*cmd, check=True, cwd=ROOT, **env):
    "A command; its result."
    res = subprocess.run([*map(str, cmd)], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=1200)
    assert res.returncode == 0 or not check, f'{cmd}: {res.stdout}{res.stderr}'
    return res

def programs(folder, **scripts):
    "Stand-ins for programs that this machine lacks, or that should say something else: a PATH with them in front."
    folder.mkdir(exist_ok=True)
    for name, body in scripts.items():
        (folder/name.replace('_', '-')).write_text(f'#!/bin/bash\n{body}\n')
        (folder/name.replace('_', '-')).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"

APPTAINER = f'''echo "$@" >>"$CALLS"
if [[ $1 == build ]]; then while [[ $# -gt 2 ]]; do shift; done; cp "$2" "$1"; exit; fi # the recipe instead of the image
shift 7; PATH={sys.prefix}/bin:$PATH exec "$@"'''

@pytest.fixture
def ssh(tmp_path):
    "An ssh server on loopback, a profile that leads to it, a home folder at its end."
    server = shutil.which('sshd', path=f"{os.environ['PATH']}:/usr/sbin")
    if not (server and shutil.which('rsync') and shutil.which('ssh')): pytest.skip('no ssh server, ssh or rsync here')
    for key in ('host', 'user'): run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', tmp_path/key)
    shutil.copy(tmp_path/'user.pub', tmp_path/'authorized')
    (tmp_path/'authorized').chmod(0o600)
    (tmp_path/'config').write_text(f'Port 17322\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n'
                                   f'PidFile {tmp_path}/pid\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n')
    if os.geteuid() == 0: Path('/run/sshd').mkdir(exist_ok=True)
    process = subprocess.Popen([server, '-D', '-f', tmp_path/'config'], stderr=subprocess.DEVNULL)
    far = tmp_path/'far'
    far.mkdir()
    (tmp_path/'site.env').write_text(f'SITE_HOST=127.0.0.1\nSITE_USER={os.environ.get("USER") or "root"}\nSITE_FOLDER={far}/nlbs-cvae\nSITE_DATA={far}/data\n')
    shell = f'ssh -p 17322 -i {tmp_path}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes'
    end = time.monotonic() + 30
    while run(*shell.split(), '127.0.0.1', 'true', check=False).returncode:
        assert time.monotonic() < end and process.poll() is None, 'the ssh server does not answer'
        time.sleep(.2)
    def call(script, *args, shell=shell, **kwargs):
        return run(ROOT/'slurm'/script, '--site', tmp_path/'site.env', *args, RSYNC_RSH=shell, NLBS_RETRY='1', **kwargs)
    call.far, call.shell = far, shell
    yield call
    process.terminate()
    process.wait()
