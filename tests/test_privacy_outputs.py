"What leaves the house, searched for a woman's id, a path, a user and a machine: generated images, metrics, reports, what is fetched and sent."
import getpass, os, shutil, socket, subprocess

import pytest
from nlbs_cvae.core import InputError
from nlbs_cvae.report import evaluate
from nlbs_cvae.sampling import generate, load_generator
from project import ROOT
from test_privacy import leaks, secrets

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
    assert (run/'metrics'/'evaluation_report.pdf').exists()
    assert not leaks(run, words | {str(tmp_path).encode()})

def test_a_failed_evaluation(tiny_run, words, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path/USER/'results'/'mine')
    (run/'model'/'config.json').write_text('{')
    with pytest.raises(InputError): evaluate(run, device='cpu')
    assert not leaks(run, words | {str(tmp_path).encode()})

@pytest.fixture
def far(tmp_path):
    "Another machine's home folder, and a script of slurm/ that believes it reaches it by ssh."
    if not shutil.which('rsync'): pytest.skip('rsync is not here: what is sent and fetched goes by it')
    home, rsh, site = tmp_path/'far', tmp_path/'rsh', tmp_path/'site.sh'
    home.mkdir()
    rsh.write_text(f'#!/bin/bash\nwhile [[ $1 == -* ]]; do shift 2; done\nshift\ncd {home} && HOME={home} exec bash -c "$*"\n')
    rsh.chmod(0o755)
    site.write_text('SITE_HOST=far\nSITE_USER=there\n')
    def run(script, *args):
        done = subprocess.run(['bash', ROOT/'slurm'/script, '--site', site, *map(str, args)], cwd=tmp_path, env={**os.environ, 'RSYNC_RSH': str(rsh)}, capture_output=True, text=True)
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
    shutil.copytree(tiny_run, tmp_path/'far'/'nlbs-cvae'/'results'/'mine')
    for more in ([], ['--checkpoints']):
        far('download.sh', '--to', tmp_path/'here', *more, 'mine')
        assert (tmp_path/'here'/'mine'/'status.json').exists() and not [*(tmp_path/'here').rglob('private')]
        assert not leaks(tmp_path/'here', words)
