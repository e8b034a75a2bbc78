"The two runners, headless, at a tiny size: what lies in the run folder then, and what a second call does."
import json, shutil, socket, subprocess, sys

import nbformat, pytest
from project import NBS

MADE = """settings.yaml run.json status.json train.ipynb evaluate.ipynb checkpoints/best_model.pth checkpoints/last.pth
model/model.safetensors model/config.json model/MODEL_CARD.md logs/training.log logs/history.csv logs/tensorboard
galleries/epoch_001 galleries/final_samples/samples.png galleries/private/final_samples/originals.png metrics/fid_scores.json
metrics/ssim_scores.json metrics/evaluation_report.pdf""".split()

def test_run_folder(tiny_run):
    assert not [o for o in MADE if not (tiny_run/o).exists()]
    assert list((tiny_run/'checkpoints').glob('model_epoch_*.pth'))
    assert json.loads((tiny_run/'status.json').read_text())['state'] == 'finished'
    assert (tiny_run/'metrics'/'evaluation_report.pdf').read_bytes().startswith(b'%PDF')
    assert 'fd_efflite0' in (tiny_run/'metrics'/'fid_scores.json').read_text()

def test_executed_notebooks_tell_the_story(tiny_run):
    for name in ('train', 'evaluate'):
        outputs = [o for c in nbformat.read(tiny_run/f'{name}.ipynb', 4).cells for o in c.get('outputs', [])]
        assert any('image/png' in o.get('data', {}) for o in outputs), f'{name}.ipynb shows no picture'
        assert not [o for o in outputs if o.output_type == 'error']

def test_nothing_lies_outside_the_run(tiny_run):
    top = tiny_run.parent.parent
    assert {p.name for p in top.iterdir()} == {'data', 'results'}
    assert [p.name for p in (top/'results').iterdir()] == [tiny_run.name]

def test_a_second_call_recognises_it(tiny_run, run_tool, tmp_path):
    "Of a copy, for others look at the run itself."
    place, folder = tmp_path/'moved', tmp_path/'moved'/'results'/tiny_run.name
    shutil.copytree(tiny_run.parent.parent, place)
    places = folder/'private'/'places.yaml'
    places.write_text(places.read_text().replace(str(tiny_run.parent.parent), str(place))) # as if it had been made here
    weights = folder/'model'/'model.safetensors'
    before = weights.stat().st_mtime_ns
    done = run_tool('notebook.py', '05_train', folder.name, 'quick_config', place=place)
    assert done.returncode == 0, done.stderr
    assert weights.stat().st_mtime_ns == before
    assert (folder/'train.001.ipynb').exists(), 'the earlier attempt is kept'

def no_loopback():
    "Is even 127.0.0.1 out of reach? A kernel that papermill starts by itself is reached through it."
    with socket.create_server(('127.0.0.1', 0)) as server, socket.socket() as client:
        return client.connect_ex(server.getsockname()) != 0

@pytest.mark.skipif(no_loopback(), reason='no loopback network here, through which papermill reaches a kernel')
def test_bare_papermill(tmp_path):
    "Without any parameter the runner is a run of seconds, in the folder it is called from."
    cmd = [sys.executable, '-m', 'papermill', NBS/'05_train.ipynb', tmp_path/'out.ipynb', '--no-progress-bar']
    done = subprocess.run(cmd, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path/'results'/'quick'/'model'/'model.safetensors').exists()

@pytest.mark.parametrize('args, said', [
    (('05_train', 'x', 'no_such_config'), "no settings file 'no_such_config'"),
    (('05_train', 'x', 'quick_config', 'training.epochs=1'), 'unknown setting training.epochs'),
    (('05_train', 'x', 'quick_config', 'data.phantom=0', 'data.archive=nowhere'), 'the archive: no such folder'),
    (('07_evaluate', 'no_such_run'), 'no_such_run'),
])
def test_bad_input_is_one_line(run_tool, args, said):
    done = run_tool('notebook.py', *args)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and said in last and 'Traceback' not in done.stderr, done.stderr
