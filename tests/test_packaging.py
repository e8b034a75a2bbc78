"A wheel and an sdist build without a network, and the wheel works where there is no checkout."
import os, re, subprocess, sys, sysconfig, tarfile, zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from project import ROOT, RUNNERS, copy_project

def run(*cmd, **kwargs):
    "A command that must succeed: what it printed."
    done = subprocess.run([str(o) for o in cmd], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{cmd}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout

@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "The folder with wheel and sdist; the wheel is built from the sdist."
    top = tmp_path_factory.mktemp('packaging')
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', top/'dist', cwd=copy_project(top/'project'))
    return top/'dist'

@pytest.fixture(scope='module')
def installed(built, tmp_path_factory):
    "An empty environment with the wheel alone in it: its folder. What the wheel needs is lent by this one; the checkout isn't on its path."
    env = tmp_path_factory.mktemp('elsewhere')/'env'
    run(sys.executable, '-m', 'venv', '--without-pip', env)
    run(sys.executable, '-m', 'pip', '--python', env/'bin'/'python', 'install', '--no-deps', '--no-index', next(built.glob('*.whl')))
    own = sysconfig.get_path('purelib', vars=dict(base=str(env), platbase=str(env)))
    (Path(own)/'lent.pth').write_text(sysconfig.get_path('purelib') + '\n') # .pth files in there, such as ours, aren't read
    return env

def test_wheel_and_sdist_hold_all_that_a_run_needs(built):
    names = set(zipfile.ZipFile(next(built.glob('*.whl'))).namelist())
    sources = [p for p in (ROOT/'nlbs_cvae').rglob('*') if p.is_file() and p.suffix != '.pyc']
    assert not {p.relative_to(ROOT).as_posix() for p in sources} - names
    assert not {f'nlbs_cvae/runners/{o}.ipynb' for o in (*RUNNERS, 'explore', 'read')} - names
    info = next(n for n in names if '.dist-info' in n).split('/')[0]
    assert not [o for o in names if o.split('/')[0] not in ('nlbs_cvae', info)]
    with tarfile.open(next(built.glob('*.tar.gz'))) as f: assert any(o.endswith('/settings.ini') for o in f.getnames())

def test_the_installed_wheel_trains_and_generates(installed, tmp_path):
    "As a user has it: console scripts, from a folder that isn't a checkout."
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'NLBS_OVERRIDES')} | dict(OMP_NUM_THREADS='1')
    there = dict(cwd=tmp_path, env=env)
    where = run(installed/'bin'/'python', '-c', 'import nlbs_cvae, sys; print(nlbs_cvae.__file__); print(*sys.path, sep="\\n")', **there).split()
    assert Path(where[0]).is_relative_to(installed) and str(ROOT) not in where
    run(installed/'bin'/'nlbs_train', 'quick_config', 'first', **there)
    run(installed/'bin'/'nlbs_generate', 'results/first', 'drawn', '--n', '3', '--conditions', 'view=MLO', '--formats', 'png,dicom', '--steps', '2', **there)
    assert len([*(tmp_path/'drawn').rglob('*.dcm')]) == 3 and (tmp_path/'drawn'/'manifest.csv').exists()
    assert (tmp_path/'results'/'first'/'model'/'model.safetensors').exists()

    asked = '''
from importlib.resources import files
from nlbs_cvae.settings import load_settings
from nlbs_cvae.explorer import Explorer
from nlbs_cvae.mapping import Mapping, mapping_names
for name in ('demo_config', 'quick_config', 'training_config', 'hpc_training_config'): load_settings(name)
for name in mapping_names(): Mapping.load(name)
explorer = Explorer('results/first')
print(len(mapping_names()), *(p.name for p in files('nlbs_cvae.runners').iterdir()))'''
    said = run(installed/'bin'/'python', '-c', asked, **there).split()
    assert int(said[0]) > 5 and {'05_train.ipynb', '07_evaluate.ipynb', 'explore.ipynb'} <= set(said)

def test_console_scripts_are_there():
    for name in ('phantom', 'prepare', 'train', 'generate', 'evaluate', 'explore', 'readers'):
        script = Path(sys.executable).with_name(f'nlbs_{name}')
        assert 'usage:' in run(script, '--help')

UNUSED = {'torchvision', 'aiohttp'} # nothing here imports it; papermill asks for it under 3.12 alone, and imports it nowhere

@pytest.mark.parametrize('python', ['3.12', '3.13'])
def test_what_is_pinned_fits_newer_pythons(python):
    "No package refuses that Python, and what it asks for there is pinned, at a version that it takes. (Whether an index has a wheel of each, pip says.)"
    import pins
    there = dict(python_version=python, python_full_version=f'{python}.0')
    pinned = {pins.plain(n): v for n, v in re.findall(r'^([\w.-]+)==(\S+)', (ROOT/'constraints.txt').read_text(), re.MULTILINE)}
    wanted = pins.needed(['nlbs_cvae[dev]'], **there)
    assert wanted - {*pinned} - UNUSED == {'nlbs-cvae'}
    for d in map(distribution, wanted - UNUSED):
        assert f'{python}.0' in SpecifierSet(d.metadata['Requires-Python'] or ''), d.name
        asked = [r for r in map(Requirement, d.requires or []) if not r.marker or r.marker.evaluate({**there, 'extra': ''})]
        for r in asked: assert pins.plain(r.name) in UNUSED or r.specifier.contains(pinned[pins.plain(r.name)], prereleases=True), f'{d.name} asks for {r}'
