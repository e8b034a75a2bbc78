"Kill it anywhere: the same command goes on, and what it leaves in the end is what the undisturbed run leaves, bit for bit."
import os, random, resource, shlex, shutil, signal, subprocess, sys, time
from itertools import product

import nbformat, pytest, torch
from project import ROOT
from nlbs_cvae.checkpoints import load_checkpoint
from training_runs import SLOW, STEPS, Runs, differences, history, left

# callbacks that are put into a run, as source
DIES = '''
class Extra(Callback):
    order = 89 # after all that counts, before the checkpoint
    def {event}(self):
        if self.learn.history.phase == '{phase}' and self.epoch + 1 == self.n_epoch: os.kill(os.getpid(), signal.SIGKILL)
'''
# not-a-number in two batches of the first phase; in every batch of the second one's last epoch
NAN_BATCHES = '''
class Extra(Callback):
    def before_batch(self):
        prior = self.learn.history.phase == 'prior'
        if self.training and self.epoch == 1 and (prior or self.iter in (1, 2)): self.learn.xb = (self.xb[0]*float('nan'), *self.xb[1:])
'''
# fp16 with a scaled loss, as on a GPU without bf16; a gradient in each phase that isn't a number; it may die on the way
AMP = 'training.use_amp=true'
NAN_GRADIENTS = '''
training.MixedPrecision = lambda half: callbacks.MixedPrecision(half=True)
class Extra(Callback):
    order = -6 # before the gradients are brought back to scale
    def before_step(self):
        if (self.epoch, self.iter) == (1, 1): next(p.grad for p in self.model.parameters() if p.grad is not None)[:] = float('nan')
    def after_batch(self):
        if {dies} and self.training and (self.epoch, self.iter) == (1, 3): os.kill(os.getpid(), signal.SIGKILL)
'''
# a batch that is too large unless it is worked in two parts; dies when that has happened
FORGETFUL = '''
from contextlib import contextmanager
class Extra(Callback):
    order = 91 # when the checkpoint is written
    def before_batch(self): self.learn.autocast = self.room
    def after_batch(self):
        if self.training and self.epoch == 1: os.kill(os.getpid(), signal.SIGKILL)
    @contextmanager
    def room(self):
        if self.n_parts < 2: raise torch.OutOfMemoryError('simulated')
        yield
'''
# every step takes a second
SLOW_STEPS = '''
class Extra(Callback):
    def before_batch(self):
        print('\\nstep', flush=True) # on a line without the progress bar
        time.sleep(1)
'''
# asked to stop at the beginning of something long that is no step
ASKED = '''
work = {work}
def asked(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    return work(*args, **kwargs)
{work} = asked
class Extra(Callback): pass
'''

@pytest.fixture(scope='module')
def runs(tmp_path_factory): return Runs(tmp_path_factory.mktemp('survival'))

@pytest.fixture(scope='module')
def straight(runs):
    "The run that nobody disturbs, as a user starts it."
    return runs.finish('straight', cmd=runs.command('straight'))

def test_the_comparison_sees_everything(straight, tmp_path):
    names = left(straight)
    for part in ('last.pth/model/', 'last.pth/opt/', 'callbacks/averaged_weights/average/0', 'callbacks/history/rows/3/', 'rng/torch', 'n_parts',
                 'best_model.pth/', 'best_autoencoder.pth/', 'best_prior.pth/', 'model_epoch_004.pth/'): assert any(part in n for n in names), part
    other = shutil.copytree(straight, tmp_path/'other')
    assert differences(straight, other) == []
    (other/'logs'/'history.csv').write_text((other/'logs'/'history.csv').read_text().replace('prior,4', 'prior,5'))
    assert differences(straight, other) == ['/history/3/epoch']

def progress(runs, run, epochs):
    "Checkpoints that an undisturbed run would have written by its newest one: one a step, one an epoch."
    file = runs.folder(run)/'checkpoints'/'last.pth'
    if not file.exists(): return 0
    state = load_checkpoint(file)
    before = dict(autoencoder=0, prior=epochs, decoder=2*epochs)[state['phase']]
    return (before + state['epoch'])*(STEPS + 1) + state['step']

def killed(runs, run, kills, epochs, *overrides):
    "Kill a run at `kills` moments spread over its length, every other one in the middle of writing a checkpoint; the phases it was in."
    draw, total, phases = random.Random(kills), (2*epochs + 1)*(STEPS + 1), [] # an epoch for the decoder
    writing = lambda: any((runs.folder(run)/'checkpoints').glob('.new.pth.*'))
    for i in range(kills):
        done = progress(runs, run, epochs)
        proc = runs.start(run, *overrides)
        saves = max(1, int((i + draw.random())*(total - 4)/kills) - done)
        assert runs.await_saves(run, saves + (done > 0), [proc], writing if i % 2 else lambda: True), f'ended before kill {i}'
        if not i % 2: time.sleep(draw.random()*.05)
        runs.strike(run, signal.SIGKILL, [proc])
        phases.append(runs.status(run)['phase'])
    return phases

@pytest.mark.parametrize('kills, epochs', [(4, 2), pytest.param(20, 6, marks=pytest.mark.slow)]) # twenty take minutes
def test_sigkill(runs, straight, kills, epochs):
    run, length = f'killed{kills}', [f'training.num_epochs={epochs}', f'training.prior_epochs={epochs}']
    undisturbed = straight if epochs == 2 else runs.finish('straight-long', *length)
    phases = killed(runs, run, kills, epochs, *length)
    assert {'autoencoder', 'prior'} <= set(phases)
    assert runs.status(run)['state'] == 'running', 'nobody was left to say otherwise'
    folder = runs.finish(run, *length)
    assert differences(undisturbed, folder) == []
    assert not list(folder.rglob('.*.tmp')), 'what the dead left half-written is gone'

EVENTS = 'before_validate', 'after_validate', 'after_epoch' # the last: between row and checkpoint
@pytest.mark.parametrize('phase, event', [('autoencoder', 'before_validate'), # the one that goes on under a discriminator; the others take minutes
    *(pytest.param(*o, marks=pytest.mark.slow) for o in product(('autoencoder', 'prior', 'decoder'), EVENTS) if o != ('autoencoder', 'before_validate'))])
def test_killed_around_a_validation(runs, straight, phase, event):
    "The last state is that of the epoch's last step: the discriminator, awake by then, and the learning rate are there for the validation."
    run = f'{phase}-{event}'
    proc = runs.start(run, script=runs.extra(run, DIES.format(event=event, phase=phase)))
    assert proc.wait(SLOW) == -signal.SIGKILL
    state = load_checkpoint(runs.folder(run)/'checkpoints'/'last.pth')
    assert (state['phase'], state['epoch'], state['step']) == (phase, 0 if phase == 'decoder' else 1, STEPS)
    assert differences(straight, runs.finish(run)) == []

def test_the_last_epoch_is_one_with_a_discriminator(straight):
    "What the test above wants to see restored does stand in the row of that epoch."
    rows = history(straight)
    assert rows[0]['valid_discriminator'] == 0 < rows[1]['valid_discriminator'] and 0 < rows[1]['lr'] < rows[0]['lr']

def test_asked_to_stop(runs, straight):
    "By the queue and by Ctrl-C, which both signal the workers too, and by a file; SIGUSR1 is the notebook's below."
    for ask, said in ((lambda p: runs.strike('asked', signal.SIGTERM, [p]), 'SIGTERM'), (lambda p: runs.strike('asked', signal.SIGINT, [p]), 'SIGINT'),
                      (lambda p: (runs.folder('asked')/'stop').touch(), 'stop file')):
        proc = runs.start('asked')
        assert runs.await_saves('asked', 2, [proc]) # of the sixteen that all three share
        ask(proc)
        assert proc.wait(SLOW) == 1
        assert f'interrupted by {said}' in proc.out.read_text() # "and saved" but between the phases
        assert runs.status('asked')['state'] == 'interrupted'
    assert differences(straight, runs.finish('asked')) == []

def test_stops_within_a_step(runs):
    "Asked to stop in the middle of a step that takes a second, no more than one other begins, and the save follows."
    proc = runs.start('slow', script=runs.extra('slow', SLOW_STEPS))
    assert runs.await_saves('slow', 2, [proc])
    time.sleep(.5)
    steps = lambda: proc.out.read_text().count('\nstep\n')
    before = steps()
    runs.strike('slow', signal.SIGTERM, [proc])
    assert proc.returncode == 1 and steps() - before <= 1
    assert runs.status('slow')['state'] == 'interrupted' and load_checkpoint(runs.folder('slow')/'checkpoints'/'last.pth')['step'] == steps()

def test_asked_between_the_phases_and_at_the_end(runs, straight):
    "Where no step looks: while the prior's scales are measured, while the model is written."
    for work in 'training.PriorPhase.set_scale', 'training.finish_run':
        proc = runs.start('between', script=runs.extra('between', ASKED.format(work=work)))
        assert proc.wait(SLOW) == 1 and 'interrupted by SIGTERM' in proc.out.read_text()
        assert runs.status('between')['state'] == 'interrupted' and not (runs.folder('between')/'model').exists()
    assert differences(straight, runs.finish('between')) == []

def test_workers_change_nothing(runs, straight):
    assert differences(straight, runs.finish('workers', 'data.num_workers=3')) == []

def test_inside_a_notebook(runs, straight):
    "papermill is deaf to signals; the kernel, found in status.json, stops, and the cells after the training are left out."
    def deaf(): [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGTERM, signal.SIGUSR1)]
    cmd = [sys.executable, ROOT/'tools'/'notebook.py', '05_train', 'noted', 'quick_config', *runs.overrides]
    proc = runs.start('noted', cmd=cmd, before=deaf)
    assert runs.await_saves('noted', 3, [proc])
    proc.send_signal(signal.SIGTERM) # as the queue does to all that it finds
    os.kill(runs.status('noted')['process'], signal.SIGUSR1)
    assert proc.wait(SLOW) != 0
    assert 'Interrupted' in proc.out.read_text() and runs.status('noted')['state'] == 'interrupted'
    cells = [c for c in nbformat.read(runs.folder('noted')/'train.ipynb', 4).cells if c.cell_type == 'code']
    training = next(i for i, c in enumerate(cells) if 'train(' in c.source)
    assert [o.ename for o in cells[training].outputs if o.output_type == 'error'] == ['Interrupted']
    assert not any(c.outputs for c in cells[training + 1:])
    assert subprocess.run(cmd, cwd=runs.place, capture_output=True).returncode == 0
    assert (runs.folder('noted')/'train.001.ipynb').exists()
    assert differences(straight, runs.folder('noted')) == []

def test_damaged_checkpoint(runs, straight):
    "Cut short and with a flipped bit; the one before is taken, and nothing but time is lost."
    last = runs.folder('damaged')/'checkpoints'/'last.pth'
    for harm in (lambda data: data[:-1000], lambda data: data[:5000] + bytes([data[5000] ^ 4]) + data[5001:]):
        proc = runs.start('damaged')
        assert runs.await_saves('damaged', 4, [proc])
        runs.strike('damaged', signal.SIGKILL, [proc])
        last.write_bytes(harm(last.read_bytes()))
    folder = runs.finish('damaged')
    assert runs.log('damaged').count('last.pth: damaged checkpoint; taking the one before') == 2
    assert differences(straight, folder) == []

def test_disk_full(runs, straight):
    "Here: no file may grow beyond a size that a checkpoint has and the others don't."
    size = (straight/'checkpoints'/'last.pth').stat().st_size
    proc = runs.start('full', before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size//2, resource.RLIM_INFINITY)))
    assert proc.wait(SLOW) == 1
    assert 'last' in runs.status('full')['error'] or 'new.pth' in runs.status('full')['error']
    assert "can't be written (File too large); make room" in runs.status('full')['error']
    assert 'Traceback' not in proc.out.read_text()
    assert differences(straight, runs.finish('full')) == []

def can_mount():
    return subprocess.run(['unshare', '-rm', 'mount', '-t', 'tmpfs', 'none', '/mnt'], capture_output=True).returncode == 0 if shutil.which('unshare') else False

@pytest.mark.skipif(not can_mount(), reason='no file system of its own can be had here (unshare -rm)')
@pytest.mark.parametrize('name, fills', [('brimful', 'cat /dev/zero > filler'),
                                         pytest.param('small', 'false', marks=pytest.mark.slow)], # a checkpoint alone fails in the test above too
                         ids=['brimful', 'small'])
def test_no_room_left(runs, straight, name, fills):
    "A file system with room for two checkpoints, and one that somebody else fills to the last byte in mid-run; with room again the run goes on."
    size = (straight/'checkpoints'/'last.pth').stat().st_size*5//2//1024
    train = shlex.join(map(str, runs.command(name)))
    runs.folder(name).mkdir(parents=True)
    script = f"""
        cd {shlex.quote(str(runs.folder(name)))} && mount -t tmpfs -o size={size if fills == 'false' else 10*size}k none . && cd "$PWD"
        ( until [ -e checkpoints/last.prev.pth ]; do sleep .01; done; {fills} ) 2>/dev/null &
        ( cd ../.. && {train} ); echo "ended with $?"
        wait; rm -f filler; mount -o remount,size=256m . && ( cd ../.. && {train} ) && cp -r . ../../{name}-saved"""
    proc = runs.start(name, cmd=['unshare', '-rm', 'sh', '-c', script])
    assert proc.wait(SLOW) == 0, proc.out.read_text()
    first, second = proc.out.read_text().split('ended with 1')
    assert 'No space left on device' in first and 'make room' in first and 'Traceback' not in first, first
    shutil.rmtree(runs.folder(name))
    assert differences(straight, shutil.move(runs.place/f'{name}-saved', runs.folder(name))) == []

def test_images_gone(runs, straight):
    "The images' file is cut while a worker reads it, as when its disk goes; back again, the run goes on."
    cache = shutil.copytree(next((runs.place/'data').glob('*-cache-*')), runs.place/'own-cache')
    proc = runs.start('gone', f'data.cache={cache}')
    assert runs.await_saves('gone', 3, [proc])
    images = (cache/'images.npy').read_bytes()
    os.truncate(cache/'images.npy', 0)
    assert proc.wait(SLOW) != 0
    assert 'feeds images died' in runs.status('gone')['error'], runs.status('gone')
    (cache/'images.npy').write_bytes(images)
    assert differences(straight, runs.finish('gone', f'data.cache={cache}')) == []

def skipped(folder): return [row['skipped'] for row in history(folder)]
def is_finite(folder): return all(t.isfinite().all() for t in left(folder).values() if isinstance(t, torch.Tensor) and t.is_floating_point())

def test_nan_in_a_batch(runs):
    "Two batches: left out, counted, said. All of them: the run ends with a word, and goes on from a good state when the cause is gone."
    few = 'training.max_nonfinite=2'
    proc = runs.start('nan', script=runs.extra('nan', NAN_BATCHES, few))
    assert proc.wait(SLOW) == 1
    assert '3 steps in a row had a loss or gradient that is not finite' in runs.status('nan')['error']
    assert 'Traceback' not in proc.out.read_text() and 'skipped 2' in runs.log('nan')
    folder = runs.finish('nan', few)
    assert skipped(folder) == [0, 2, 0, 2, 0] and is_finite(folder), 'of the four last, two were counted before the word'

@pytest.fixture(scope='module')
def half(runs):
    "A run under fp16 with a gradient in each phase that isn't a number: its folder."
    return runs.finish('half', AMP, script=runs.extra('half', NAN_GRADIENTS.format(dies=False), AMP))

def test_nan_in_gradients_under_fp16(half):
    "The step is left out, the scale halved; the scale that fp16 begins with overflows by itself, until it is small enough."
    counts = skipped(half)
    assert [counts[1] - counts[0], counts[3] - counts[2]] == [1, 1] and is_finite(half)
    for name, n in ('best_autoencoder.pth', counts[1]), ('model_epoch_004.pth', counts[3]), ('last.pth', counts[4]):
        assert load_checkpoint(half/'checkpoints'/name)['callbacks']['mixed_precision']['scale'] == 2**(16 - n)

@pytest.mark.slow # four more starts; in seconds: the callbacks' notebook
def test_killed_under_fp16(runs, half):
    "After such a step, in each phase: the run goes on with the same scale, to the same end."
    for _ in 'autoencoder', 'prior':
        assert runs.start('halves', script=runs.extra('halves', NAN_GRADIENTS.format(dies=True), AMP)).wait(SLOW) == -signal.SIGKILL
    assert differences(half, runs.finish('halves', AMP, script=runs.extra('halves', NAN_GRADIENTS.format(dies=False), AMP))) == []

def test_out_of_memory(runs, straight):
    "The batch is cut in two, also by the process that goes on; the result is that of whole batches but for the order of sums."
    proc = runs.start('large', script=runs.extra('large', FORGETFUL))
    assert proc.wait(SLOW) == -signal.SIGKILL and 'batches are worked in 2 parts from here on' in runs.log('large')
    folder = runs.finish('large')
    assert load_checkpoint(folder/'checkpoints'/'best_autoencoder.pth')['n_parts'] == 2
    a, b = left(straight), left(folder)
    for name in 'best_autoencoder.pth', 'best_model.pth':
        keys = [k for k in a if k.startswith(f'/states/{name}/callbacks/averaged_weights/average/')]
        assert 0 < max((a[k] - b[k]).abs().max() for k in keys) < 1e-3, name

def test_one_at_a_time(runs):
    "The same command while the run is running, and another run's settings: an error of one line, and nothing is written."
    proc = runs.start('once')
    assert runs.await_saves('once', 1, [proc])
    for overrides, said in (([], 'this run is in use by process'), (['training.seed=1'], 'training.seed: 42 -> 1')):
        second = runs.start('once', *overrides)
        assert second.wait(SLOW) == 1
        assert said in second.out.read_text() and 'Traceback' not in second.out.read_text()
    runs.strike('once', signal.SIGKILL, [proc])
