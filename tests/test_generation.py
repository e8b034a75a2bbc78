"Generation as a process: killed and gone on with, memory that doesn't grow, errors of one line, files that other readers read."
import os, signal, subprocess, sys, time

import numpy as np, pytest

RUN = 'from nlbs_cvae.sampling import nlbs_generate\nnlbs_generate()\n' # as a console script does

@pytest.fixture(scope='module')
def start(tmp_path_factory):
    "nlbs_generate in a process of its own."
    script = tmp_path_factory.mktemp('bin')/'nlbs_generate'
    script.write_text(RUN)
    return lambda *args: subprocess.Popen([sys.executable, script, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

@pytest.fixture(scope='module')
def call(start):
    "Run it to the end: exit status, stdout, stderr."
    def run(*args):
        p = start(*args)
        out, err = p.communicate(timeout=600)
        return p.returncode, out, err
    return run

@pytest.fixture(scope='module')
def model(tmp_path_factory):
    "The folder of an untrained model, small and quick."
    from nlbs_cvae.cvae import ConditionalVAE
    from nlbs_cvae.metadata import Condition, Conditions
    from nlbs_cvae.prior import Generator, Prior
    conditions = Conditions([Condition('view', ('CC', 'MLO'), counts=(9, 9, 0)), Condition('laterality', ('L', 'R'), counts=(9, 9, 0)),
                             Condition('cancer', ('0', '1'), counts=(18, 0, 0))])
    vae = ConditionalVAE(conditions.sizes, (64, 64), 8, channels=8, cond_dim=16)
    folder = tmp_path_factory.mktemp('model')
    Generator(vae, Prior(conditions.sizes, vae.grid_shape, 8, channels=16, width=32), conditions).eval().save(folder)
    return folder

def contents(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}

def test_killed_and_gone_on_with(start, call, model, tmp_path):
    ask = ['--n', 60, '--conditions', 'view=MLO,laterality=R', '--steps', 8, '--batch_size', 4, '--formats', 'png,npy,dicom', '--device', 'cpu']
    assert call(model, tmp_path/'whole', *ask)[0] == 0
    for most in (3, 30): # images after which the process dies, twice in the same folder
        p = start(model, tmp_path/'cut', *ask)
        while p.poll() is None and len(list((tmp_path/'cut').glob('[0-9]*.png'))) < most: time.sleep(.01)
        p.send_signal(signal.SIGKILL)
        p.communicate()
        assert p.returncode == -signal.SIGKILL, 'it was done before it could be killed'
        assert not (tmp_path/'cut'/'manifest.csv').exists()
    assert call(model, tmp_path/'cut', *ask)[0] == 0
    assert contents(tmp_path/'cut') == contents(tmp_path/'whole')

def test_foreign_folder_is_left_alone(call, model, tmp_path):
    (tmp_path/'holiday.jpg').write_bytes(b'sea')
    status, out, err = call(model, tmp_path, '--n', 2, '--steps', 1)
    assert status == 1 and 'holiday.jpg' in err and 'Traceback' not in err and len(err.splitlines()) <= 2
    assert [p.name for p in tmp_path.iterdir()] == ['holiday.jpg']

@pytest.mark.parametrize('args, word', [(['--conditions', 'view=XX'], 'XX'), (['--conditions', 'gone.csv'], 'gone.csv'), (['--formats', 'gif'], 'gif'),
                                        (['--like', 'gone'], 'like=gone'), (['--batch_size', 0], 'batch_size=0'), (['--device', 'tpu'], 'tpu')])
def test_errors_are_a_line(call, model, tmp_path, args, word):
    status, out, err = call(model, tmp_path/'out', *args)
    assert status == 1 and word in err and 'Traceback' not in err and len(err.splitlines()) <= 2, err
    assert not (tmp_path/'out').exists()

def test_damaged_and_foreign_models(call, model, tmp_path):
    import json, shutil
    for name, change in dict(damaged=lambda f: (f/'model.safetensors').write_bytes((f/'model.safetensors').read_bytes()[:-9]),
                             future=lambda f: (f/'config.json').write_text(json.dumps(json.loads((f/'config.json').read_text()) | dict(format='nlbs-cvae 99')))).items():
        change(shutil.copytree(model, tmp_path/name))
        status, out, err = call(tmp_path/name, tmp_path/'out', '--n', 1)
        assert status == 1 and 'Traceback' not in err and len(err.splitlines()) <= 2 and not (tmp_path/'out').exists(), err

def test_help(call): 
    status, out, err = call('--help')
    assert status == 0 and 'for example' in out and 'guidance' in out

def test_another_reader_sees_the_same_pixels(call, model, tmp_path):
    gdcm = pytest.importorskip('gdcm')
    assert call(model, tmp_path/'out', '--n', 3, '--steps', 2, '--formats', 'png,dicom')[0] == 0
    from PIL import Image
    for dcm in sorted((tmp_path/'out'/'dicom').glob('*.dcm')):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(dcm))
        assert reader.Read()
        image = reader.GetImage()
        pixels = np.frombuffer(image.GetBuffer().encode('utf-8', 'surrogateescape'), np.uint16).reshape(image.GetDimension(1), image.GetDimension(0))
        with Image.open(tmp_path/'out'/f'{dcm.stem}.png') as png: assert np.array_equal(pixels, np.rint(np.asarray(png)*(4095/65535)))

def peak(p, until=lambda: False):
    "Most private memory of a process, in kB, until it ends or `until()`."
    most = 0
    while p.poll() is None and not until():
        try: most = max(most, int(next(l for l in open(f'/proc/{p.pid}/status') if l.startswith('RssAnon')).split()[1]))
        except (StopIteration, FileNotFoundError, ProcessLookupError): pass
        time.sleep(.05)
    return most

@pytest.mark.slow
def test_ten_thousand_in_bounded_memory(start, model, tmp_path):
    "Minutes: 10,000 images at 64 pixels need no more memory than 1,000; killed half-way and gone on with, the files are the same."
    ask = lambda n, out: start(model, tmp_path/out, '--n', n, '--steps', 2, '--batch_size', 64, '--formats', 'png,npy', '--device', 'cpu')
    few, begun = peak(ask(1000, 'few')), time.monotonic()
    many = peak(p := ask(10000, 'many'))
    print(f'{10000/(time.monotonic() - begun):.0f} images/s, {few//1024} MB for 1,000, {many//1024} MB for 10,000')
    assert p.returncode == 0 and many < 1.1*few + 20000 # kB
    peak(p := ask(10000, 'cut'), (tmp_path/'cut'/'005000.png').exists)
    p.kill()
    assert p.wait() == -signal.SIGKILL
    assert peak(p := ask(10000, 'cut')) < 1.1*few + 20000 and p.returncode == 0
    assert contents(tmp_path/'cut') == contents(tmp_path/'many') and len(contents(tmp_path/'many')) == 10004
