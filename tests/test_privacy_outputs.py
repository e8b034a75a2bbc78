"What leaves the house, searched for a woman's id, a path, a user and a machine: generated images, metrics, reports, what is fetched and sent."
import getpass, json, os, re, shutil, socket, subprocess

import pytest
from nlbs_cvae.core import InputError
from nlbs_cvae import sampling
from nlbs_cvae.report import evaluate
from nlbs_cvae.settings import read_yaml
from nlbs_cvae.sampling import generate, load_generator
from project import ROOT, copy_project
from test_privacy import contents, leaks, secrets

USER, HOST = 'janeroe', 'mammo-7.clinic'

@pytest.fixture
def words(tiny_run, archive, monkeypatch):
    "A user and a machine with names, beside everything that names a woman or a place."
    monkeypatch.setattr(socket, 'gethostname', lambda: HOST)
    for k in ('USER', 'LOGNAME'): monkeypatch.setenv(k, USER)
    monkeypatch.setattr(getpass, 'getuser', lambda: USER)
    places = {str(o).encode() for o in (archive, tiny_run.parent.parent, ROOT) if len(str(o)) > 7}
    return secrets(archive) | places | {USER.encode(), HOST.encode()}

def test_generation(tiny_run, words, tmp_path):
    "In every format, by a table whose path is a woman's, into a folder of hers."
    home = tmp_path/USER/'109430185503'
    home.mkdir(parents=True)
    (home/'wanted.csv').write_text('view,laterality,patient\nCC,L,109430185503\n')
    out = home/'out'
    try: generate(load_generator(tiny_run, 'cpu'), out, 2, str(home/'wanted.csv'), steps=2, formats=('png', 'npy', 'dicom'))
    except InputError: # a table may not have columns that nothing uses
        (home/'wanted.csv').write_text('view,laterality\nCC,L\n')
        generate(load_generator(tiny_run, 'cpu'), out, 2, str(home/'wanted.csv'), steps=2, formats=('png', 'npy', 'dicom'))
    assert len([*out.rglob('*.dcm')]) == 2
    assert not leaks(out, words | {b'109430185503'})

@pytest.mark.parametrize('public', [True, False])
def test_evaluation(tiny_run, words, tmp_path, public):
    "Metrics, report, card and samples, public or not: a copy of the run, evaluated elsewhere."
    run = shutil.copytree(tiny_run, tmp_path/USER/'results'/'mine', ignore=shutil.ignore_patterns('lock.json', '.lock', 'features'))
    shutil.rmtree(run/'metrics')
    evaluate(run, public, overrides=['evaluation.samples=8', 'evaluation.bootstrap=4', 'evaluation.steps=2', 'evaluation.classifier_epochs=1'], device='cpu')
    assert b'ynthetic' in contents(run/'metrics'/'evaluation_report.pdf').replace(b'S', b's'), 'its words are read'
    assert not leaks(run, words | {str(tmp_path).encode()})

def another(cache): (cache/'cache.json').write_text(re.sub('"fingerprint": "[^"]+"', '"fingerprint": "x"', (cache/'cache.json').read_text()))
def no_test_women(cache): (cache/'table.csv').write_text((cache/'table.csv').read_text().replace('test', 'train'))
def cut_images(cache): (cache/'images.npy').write_bytes((cache/'images.npy').read_bytes()[:3000])

SPOIL = dict(
    config=lambda run, cache: (run/'model'/'config.json').write_text('{'), weights=lambda run, cache: (run/'model'/'model.safetensors').write_bytes(b''),
    settings=lambda run, cache: (run/'settings.yaml').write_text('data: ['), came_alone=lambda run, cache: shutil.rmtree(run/'private'),
    another=lambda run, cache: another(cache), no_test_women=lambda run, cache: no_test_women(cache), cut_images=lambda run, cache: cut_images(cache))

@pytest.mark.parametrize('name', SPOIL)
def test_a_failed_evaluation(tiny_run, archive, words, tmp_path, monkeypatch, name):
    "In a notebook, which keeps what an error says: the prepared images lie in a folder of a woman's, in that of a user, with spaces and accents."
    run, cache = (tmp_path/USER/'mes étudés'/'109430185503'/o for o in ('mine', 'cache'))
    shutil.copytree(tiny_run, run)
    shutil.copytree(*archive.parent.glob('*cache*'), cache)
    places = run/'private'/'places.yaml'
    places.write_text(json.dumps(read_yaml(places) | dict(data=dict(archive=str(archive), cache=str(cache)))))
    SPOIL[name](run, cache)
    monkeypatch.setattr('nlbs_cvae.run.in_notebook', lambda: True)
    with pytest.raises(Exception) as caught: evaluate(run, device='cpu')
    seen = words | {str(tmp_path).encode(), b'109430185503', 'mes étudés'.encode()}
    assert not leaks(run, seen) and not [o for o in seen if o in str(caught.value).encode()], caught.value
    assert name == 'came_alone' or (run/'private'/'errors.txt').exists(), 'in full, where nobody else reads it'

def test_a_failed_generation(tiny_run, words, tmp_path, monkeypatch):
    "It breaks off at the second batch, by an error that names a woman; then it goes on."
    home, real, calls = tmp_path/USER/'109430185503', sampling.save_png, []
    def crash(path, *args, **kwargs):
        calls.append(path)
        if len(calls) == 4: raise OSError(28, 'No space left on device', f'{home}/{HOST}')
        return real(path, *args, **kwargs)
    monkeypatch.setattr(sampling, 'save_png', crash)
    seen = words | {b'109430185503', str(tmp_path).encode()}
    with pytest.raises(OSError): generate(load_generator(tiny_run, 'cpu'), home/'out', 6, steps=1, batch_size=2)
    assert 0 < len([*(home/'out').rglob('*.png')]) < 6 and not leaks(home/'out', seen)
    generate(load_generator(tiny_run, 'cpu'), home/'out', 6, steps=1, batch_size=2)
    assert not leaks(home/'out', seen)

@pytest.fixture
def far(tmp_path):
    "Another machine's home folder, and a script of slurm/ that believes it reaches it by ssh."
    if not shutil.which('rsync'): pytest.skip('rsync is not here: what is sent and fetched goes by it')
    home, rsh, site = tmp_path/'far', tmp_path/'rsh', tmp_path/'site.sh'
    home.mkdir()
    rsh.write_text(f'#!/bin/bash\nwhile [[ $1 == -* ]]; do shift 2; done\nshift\ncd {home} && HOME={home} exec bash -c "$*"\n')
    rsh.chmod(0o755)
    site.write_text('SITE_HOST=far\nSITE_USER=there\n')
    def run(script, *args, root=ROOT):
        done = subprocess.run(['bash', root/'slurm'/script, '--site', site, *map(str, args)], cwd=tmp_path, env={**os.environ, 'RSYNC_RSH': str(rsh)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return home
    return run

def test_what_is_sent(tiny_run, archive, words, far):
    "Prepared images go without their private tables."
    cache, = [p.parent for p in archive.parent.glob('*cache*/cache.json')]
    there = far('transfer.sh', 'cache', cache)
    assert [*there.rglob('images.npy')] and not [*there.rglob('private')]
    assert not leaks(there, words)

def test_what_is_fetched(tiny_run, words, far, tmp_path):
    "A run comes without its private folder, checkpoints or not."
    run = shutil.copytree(tiny_run, tmp_path/'far'/'nlbs-cvae'/'results'/'mine')
    for name in ('logs/train-7.out', 'private/errors.txt'): (run/name).write_text(f'job 7 on {HOST}, archive /home/{USER}/109430185503')
    for more in ([], ['--checkpoints']):
        far('download.sh', '--to', tmp_path/'here', *more, 'mine')
        assert (tmp_path/'here'/'mine'/'status.json').exists() and not [*(tmp_path/'here').rglob('private')]
        assert not leaks(tmp_path/'here', words)
    far('download.sh', '--to', tmp_path/'here', '--private', 'mine')
    assert (tmp_path/'here'/'mine'/'logs'/'train-7.out').exists() and leaks(tmp_path/'here', words)

def test_what_is_sent_as_code(tiny_run, archive, words, far, tmp_path):
    "The project's folder holds an archive, its cache, a run, tables, logs and notes in every corner: none of it goes, dry or not."
    clone = copy_project(tmp_path/USER/'clone')
    (clone/'slurm'/'private').mkdir()
    (clone/'slurm'/'private'/'ids.csv').write_text(f'{USER} on {HOST}: 109430185503') # git knows it
    for cmd in (['init', '-q'], ['add', '-A']): subprocess.run(['git', *cmd], cwd=clone, check=True)
    known = {o for o in subprocess.run(['git', 'ls-files', '-z'], cwd=clone, check=True, capture_output=True, text=True).stdout.split('\0') if o} - {'slurm/private/ids.csv'}
    cache, = [p.parent for p in archive.parent.glob('*cache*/cache.json')]
    for folder, name in ((archive, 'data/quick'), (archive, '109430185503'), (cache, 'prepared'), (tiny_run, 'results/mine')): shutil.copytree(folder, clone/name)
    for name in ('ids.csv', '.env', 'nbs/notes.ipynb', 'nbs/.ipynb_checkpoints/a-checkpoint.ipynb', 'slurm/nlbs-7.out', 'slurm/sites/other.env', 'nlbs_cvae/configs/mine.yaml',
                 'tests/-rf', 'private/key', 'new\nline.txt', 'out.ipynb'):
        (clone/name).parent.mkdir(parents=True, exist_ok=True)
        (clone/name).write_text(f'{USER} on {HOST}: 109430185503')
    for args in (['--dry-run', 'code'], ['code']):
        there = far('transfer.sh', *args, root=clone)
    sent = {str(p.relative_to(there/'nlbs-cvae')) for p in there.rglob('*') if p.is_file() or p.is_symlink()}
    assert sent == known and len(known) > 100
    sources = b'\n'.join(contents(clone/p) for p in known)
    ours = {o for o in words if o in sources} # words of the phantom, and this file's
    assert len(ours) < len(words)/2 and not leaks(there, words - ours | {f'{USER} on {HOST}: 109430185503'.encode()})
