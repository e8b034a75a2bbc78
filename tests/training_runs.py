"Training runs of seconds as real processes: start them, strike them at chosen moments, compare what they leave."
import csv, os, socket, subprocess, sys, time
from pathlib import Path

import torch
from nlbs_cvae.checkpoints import load_checkpoint
from nlbs_cvae.core import read_json

from starting import Forked

STEPS = 4 # of an epoch: 36 images of the tiny archive in batches of 8
TINY = ['data.num_workers=1', 'training.save_minutes=0', 'training.tensorboard=false', # a checkpoint after every step
        'training.adversarial_start=0.5'] # the discriminator wakes with the second epoch of two
SLOW = 600 # seconds after which a process that should have got on has hung
# nlbs_train whose Learners have one callback more, `Extra`, which a test puts in
EXTRA = '''
import os, signal, sys, time, torch
from fastai.callback.core import Callback
from nlbs_cvae import callbacks, training
from nlbs_cvae.core import InputError
{source}
make = training.make_learner
def make_learner(*args, **kwargs):
    learn = make(*args, **kwargs)
    learn.add_cb(Extra())
    return learn
training.make_learner = make_learner
if __name__ == '__main__': training.nlbs_train()
'''

class Runs:
    """Runs in a folder; the first one prepares the images for all of them. Processes are forks of a server that has everything imported;
    those that are given as a command line, or are changed before they begin, are what a user starts, imports and all."""
    def __init__(self, place, *overrides): self.place, self.overrides = Path(place), [*TINY, *overrides]

    def folder(self, run): return self.place/'results'/run
    def status(self, run): return read_json(self.folder(run)/'status.json') if (self.folder(run)/'status.json').exists() else {}
    def log(self, run): return (self.folder(run)/'logs'/'training.log').read_text()
    def command(self, run, *overrides):
        return [Path(sys.executable).with_name('nlbs_train'), 'quick_config', run, '--overrides', ' '.join([*self.overrides, *overrides])]

    def start(self, run, *overrides, env=None, script=None, cmd=None, before=None):
        "A process of the run, the leader of a session of its own, its words in `run.N.out`."
        out, env = self.place/f"{run}.{len(list(self.place.glob(f'{run}.*.out')))}.out", {**os.environ, **(env or {})}
        out.touch() # the next one has another number
        if not (cmd or before): return Forked(script or self.command(run, *overrides), self.place, env, out)
        with out.open('w') as f:
            proc = subprocess.Popen(cmd or self.command(run, *overrides), cwd=self.place, env=env, stdout=f, stderr=subprocess.STDOUT,
                                    start_new_session=True, preexec_fn=before)
        proc.out = out
        return proc

    def extra(self, name, source, *overrides):
        "The script of a run with a callback `Extra`, given as source, and its arguments."
        script = self.place/name/'nlbs_train'
        script.parent.mkdir(exist_ok=True)
        script.write_text(EXTRA.format(source=source))
        return [script, *self.command(name, *overrides)[1:]]

    def together(self, run, *overrides, size=2, **kwargs):
        "Processes that train together, as torchrun would start them."
        with socket.create_server(('127.0.0.1', 0)) as s: port = s.getsockname()[1]
        env = dict(WORLD_SIZE=str(size), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        return [self.start(run, *overrides, env={**env, 'RANK': str(r)}, **kwargs) for r in range(size)]

    def finish(self, run, *overrides, **kwargs):
        "The run's command once more, to its end."
        proc = self.start(run, *overrides, **kwargs)
        assert proc.wait(SLOW) == 0, proc.out.read_text()[-3000:]
        assert self.status(run)['state'] == 'finished'
        return self.folder(run)

    def await_saves(self, run, n, procs, then=lambda: True):
        "Wait until `n` more checkpoints are written and `then()`; False where a process ended before."
        file, seen, end = self.folder(run)/'checkpoints'/'last.pth', None, time.monotonic() + SLOW
        while time.monotonic() < end:
            now = file.stat().st_mtime_ns if file.exists() else None
            n, seen = n - (now != seen and now is not None), now
            if n <= 0 and then(): return True
            if any(p.poll() is not None for p in procs): return False
            time.sleep(.002)
        raise AssertionError(f'{run}: hangs\n' + '\n'.join(p.out.read_text()[-2000:] for p in procs))

    def strike(self, run, number, procs):
        "A signal to processes, their workers too; their exit statuses."
        for p in procs: os.killpg(p.pid, number)
        return [p.wait(SLOW) for p in procs]

def flat(o, path=''):
    "Leaves of nested dicts and lists as {path: value}, but for what the clock says, and settings that change nothing."
    items = o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, (list, tuple)) else None
    if items is None: return {path: o}
    return {k: v for key, value in items if key not in ('seconds', 'settings') for k, v in flat(value, f'{path}/{key}').items()}

def history(folder):
    "Rows of a run's history, numbers as numbers."
    with (folder/'logs'/'history.csv').open() as f:
        return [{k: v if k == 'phase' else float(v) for k, v in row.items() if v} for row in csv.DictReader(f)]

def left(folder):
    "Everything that a run leaves behind: tensors, counters, figures."
    states = {p.name: load_checkpoint(p) for p in sorted((folder/'checkpoints').glob('*.pth')) if p.name != 'last.prev.pth'}
    with (folder/'logs'/'history.csv').open() as f: history = list(csv.DictReader(f))
    return flat(dict(states=states, history=history, model=(folder/'model'/'model.safetensors').read_bytes()))

def differences(a, b):
    "Names of what isn't the very same in two runs."
    a, b = left(a), left(b)
    def same(x, y): return torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else type(x) == type(y) and x == y
    return [k for k in {**a, **b} if k not in a or k not in b or not same(a[k], b[k])]
