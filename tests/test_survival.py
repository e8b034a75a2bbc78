"Kill it anywhere: the same command goes on, and what it leaves in the end is what the undisturbed run leaves, bit for bit."
import os, random, resource, shutil, signal, subprocess, sys, time

import nbformat, pytest
from project import ROOT
from training_runs import SLOW, STEPS, Runs, differences, left

@pytest.fixture(scope='module')
def runs(tmp_path_factory): return Runs(tmp_path_factory.mktemp('survival'))

@pytest.fixture(scope='module')
def straight(runs):
    "The run that nobody disturbs."
    return runs.finish('straight')

def test_the_comparison_sees_everything(straight, tmp_path):
    names = left(straight)
    for part in ('last.pth/model/', 'last.pth/opt/', 'callbacks/averaged_weights/average/0', 'callbacks/history/rows/3/', 'rng/torch', 'n_parts',
                 'best_model.pth/', 'best_autoencoder.pth/', 'model_epoch_004.pth/'): assert any(part in n for n in names), part
    other = shutil.copytree(straight, tmp_path/'other')
    assert differences(straight, other) == []
    (other/'logs'/'history.csv').write_text((other/'logs'/'history.csv').read_text().replace('prior,4', 'prior,5'))
    assert differences(straight, other) == ['/history/3/epoch']

def killed(runs, run, kills, seed):
    "Kill a run at `kills` moments spread over its length, every other one in the middle of writing a checkpoint; the phases it was in."
    draw, total, done, phases = random.Random(seed), 4*(STEPS + 1), 0, []
    writing = lambda: any((runs.folder(run)/'checkpoints').glob('.new.pth.*'))
    for i in range(kills):
        saves = max(1, int((i + draw.random())*(total - 2)/kills) - done)
        proc = runs.start(run)
        assert runs.await_saves(run, saves + (done > 0), [proc], writing if i % 2 else lambda: True), f'ended before kill {i}'
        if not i % 2: time.sleep(draw.random()*.05)
        runs.strike(run, signal.SIGKILL, [proc])
        done, phases = done + saves, [*phases, runs.status(run)['phase']]
    return phases

@pytest.mark.parametrize('kills', [4, pytest.param(20, marks=pytest.mark.slow)]) # of the four, one falls between an epoch's last step and its validation; twenty take minutes
def test_sigkill(runs, straight, kills):
    phases = killed(runs, f'killed{kills}', kills, seed=kills)
    assert {'autoencoder', 'prior'} <= set(phases)
    assert runs.status(f'killed{kills}')['state'] == 'running', 'nobody was left to say otherwise'
    folder = runs.finish(f'killed{kills}')
    assert differences(straight, folder) == []
    assert not list(folder.rglob('.*.tmp')), 'what the dead left half-written is gone'

def test_asked_to_stop(runs, straight):
    "By the queue, which signals the workers too, with its warning, and by a file."
    for ask, said in ((lambda p: runs.strike('asked', signal.SIGTERM, [p]), 'SIGTERM'), (lambda p: p.send_signal(signal.SIGUSR1), 'SIGUSR1'),
                      (lambda p: (runs.folder('asked')/'stop').touch(), 'stop file')):
        proc = runs.start('asked')
        assert runs.await_saves('asked', 4, [proc])
        ask(proc)
        assert proc.wait(SLOW) == 1
        assert f'interrupted by {said} and saved' in proc.out.read_text()
        assert runs.status('asked')['state'] == 'interrupted'
    assert differences(straight, runs.finish('asked')) == []

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

def test_one_at_a_time(runs):
    "The same command while the run is running, and another run's settings: an error of one line, and nothing is written."
    proc = runs.start('once')
    assert runs.await_saves('once', 1, [proc])
    for overrides, said in (([], 'this run is in use by process'), (['training.seed=1'], 'training.seed: 42 -> 1')):
        second = runs.start('once', *overrides)
        assert second.wait(SLOW) == 1
        assert said in second.out.read_text() and 'Traceback' not in second.out.read_text()
    runs.strike('once', signal.SIGKILL, [proc])
