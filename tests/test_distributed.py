"Two processes train as one would; one writer; they stop together, go on together, and fail with a word."
import json, signal

import pytest
from test_end_to_end import no_loopback
from training_runs import SLOW, Runs, differences, history, left

pytestmark = pytest.mark.skipif(no_loopback(), reason='no loopback network here, through which the processes would talk')

# prints the loss of every step: the run's own command, and a callback that only watches
WATCHED = '''
import sys
from nlbs_cvae import callbacks, training
class Prints(callbacks.EarlyStop):
    order = 99
    def after_batch(self):
        if self.training: print('\\nloss', float(self.learn.loss), flush=True) # on a line without the progress bar
training.EarlyStop = Prints
training.train(training.load_settings('quick_config', sys.argv[2:]), sys.argv[1])
'''
LONG = ['training.num_epochs=5', 'training.prior_epochs=5', 'training.decoder_epochs=5']

@pytest.fixture(scope='module')
def runs(tmp_path_factory): return Runs(tmp_path_factory.mktemp('distributed'))

@pytest.fixture(scope='module')
def pair(runs):
    "Two processes, undisturbed, as torchrun starts them: their run's folder."
    procs = runs.together('pair', cmd=runs.command('pair'))
    assert [p.wait(SLOW) for p in procs] == [0, 0], ''.join(p.out.read_text()[-2000:] for p in procs)
    return runs.folder('pair')

def losses(proc): return [float(line.split()[1]) for line in proc.out.read_text().splitlines() if line.startswith('loss ')]

def test_same_losses_as_one(runs):
    "Twenty steps of each phase with augmentation, hidden conditions and the average: the same but for the order of sums."
    script = runs.place/'watched.py'
    script.write_text(WATCHED)
    watched = lambda run: dict(script=[script, run, *runs.overrides, *LONG])
    procs = [runs.start('alone', **watched('alone')), *runs.together('shared', **watched('shared'))]
    assert [p.wait(SLOW) for p in procs] == [0, 0, 0], ''.join(p.out.read_text()[-2000:] for p in procs)
    one, first, second = map(losses, procs)
    assert len(one) == 60 and first == second, 'all know the loss of the whole batch'
    assert first == pytest.approx(one, rel=3e-4)
    assert len(set(one)) == 60
    a, b = left(runs.folder('alone')), left(runs.folder('shared'))
    figures = [k for k in a if k.startswith('/history/') and a[k] and k.split('/')[-1] not in ('phase', 'epoch')] # a phase leaves the other's empty
    assert len(figures) > 100 and a.keys() == b.keys()
    for k in figures:
        near = 1e-3 if k.endswith(('adversarial', 'discriminator')) else 1e-4 # scores lie around zero, and the game enlarges what rounding began
        assert float(a[k]) == pytest.approx(float(b[k]), rel=1e-3, abs=near), k
    name = '/states/last.pth/callbacks/averaged_weights/average/0'
    assert (a[name] - b[name]).abs().max() < 1e-4

def test_one_writes(runs, pair):
    first, second = sorted(runs.place.glob('pair.*.out'))
    assert 'finished' in first.read_text() and second.read_text().strip() == ''
    assert runs.log('pair').count('finished:') == 1 and runs.log('pair').count('autoencoder epoch 1/') == 1
    assert json.loads((pair/'run.json').read_text())['hardware']['processes'] == 2
    assert {p.name for p in (pair/'checkpoints').iterdir()} == {
        'last.pth', 'last.prev.pth', 'best_model.pth', 'best_autoencoder.pth', 'best_prior.pth', 'best_decoder.pth',
        'model_epoch_002.pth', 'model_epoch_004.pth', 'model_epoch_005.pth'}

def test_stopped_and_killed(runs, pair):
    "The signal to one stops both; killed in the other phase they go on too; in the end the very same is left."
    procs = runs.together('cut')
    assert runs.await_saves('cut', 4, procs)
    procs[1].terminate()
    assert [p.wait(SLOW) for p in procs] == [1, 0], 'one speaks for all'
    assert runs.status('cut')['state'] == 'interrupted' and 'interrupted by SIGTERM and saved' in procs[0].out.read_text()
    procs = runs.together('cut')
    assert runs.await_saves('cut', 10, procs)
    runs.strike('cut', signal.SIGKILL, procs)
    assert runs.status('cut')['phase'] == 'prior'
    assert [p.wait(SLOW) for p in runs.together('cut')] == [0, 0]
    assert differences(pair, runs.folder('cut')) == []

def test_goes_on_with_another_number(runs, pair):
    "Begun by two, ended by one: what one finds is what two have left."
    procs = runs.together('fewer')
    assert runs.await_saves('fewer', 7, procs)
    procs[0].send_signal(signal.SIGUSR1)
    assert [p.wait(SLOW) for p in procs] == [1, 0]
    a, b = left(pair), left(runs.finish('fewer'))
    assert a.keys() == b.keys()
    name = '/states/last.pth/callbacks/averaged_weights/average/0'
    assert (a[name] - b[name]).abs().max() < 1e-4

def test_examinations(runs):
    "Two processes tell each image of the same others as one does; killed in the second phase, they go on to the very same."
    exams = 'model.exams=true'
    procs = [runs.start('exams_one', exams), *runs.together('exams_two', exams)]
    assert [p.wait(SLOW) for p in procs] == [0, 0, 0], ''.join(p.out.read_text()[-2000:] for p in procs)
    one, two = (history(runs.folder(run)) for run in ('exams_one', 'exams_two'))
    pairs = [(a[k], b[k]) for a, b in zip(one, two) for k in a if k.endswith('prior_z')]
    assert len(pairs) == 4 and all(a == pytest.approx(b, rel=1e-3) for a, b in pairs), pairs
    procs = runs.together('exams_cut', exams)
    assert runs.await_saves('exams_cut', 13, procs)
    runs.strike('exams_cut', signal.SIGKILL, procs)
    assert runs.status('exams_cut')['phase'] == 'prior'
    assert [p.wait(SLOW) for p in runs.together('exams_cut', exams)] == [0, 0]
    assert differences(runs.folder('exams_two'), runs.folder('exams_cut')) == []

def test_one_fails(runs):
    "Without a word, and with one: the other ends too and says why."
    procs = runs.together('failing')
    assert runs.await_saves('failing', 3, procs)
    runs.strike('failing', signal.SIGKILL, procs[1:])
    assert procs[0].wait(SLOW) == 1
    assert 'another process of this run is gone' in runs.status('failing')['error']
    procs = runs.together('few', 'data.batch_size=1')
    assert [p.wait(SLOW) for p in procs] == [1, 1]
    assert all('2 processes share batches of 1 images' in p.out.read_text() for p in procs)
