"What the tests share: slow ones on request, outside programs that may be absent, a copy of the project, a tiny run."
import fcntl, os, shutil, subprocess, sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent.parent/'tools'))
sys.modules.setdefault('rfc3987_syntax', None) # see tools/notebook.py
from project import ROOT, copy_project
from starting import import_once

import_once('nlbs_cvae.training', 'nlbs_cvae.sampling', 'albumentations', 'torch._dynamo')

for name in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', 'RUN', 'CONFIG', 'MODEL'): os.environ.pop(name, None) # of the make that runs the tests
PROGRAMS = dict(slurm=('sbatch', 'sinfo'), browser=('chromium', 'chromedriver'), dicom3tools=('dciodvfy',)) # what `needs` can name
LONG = 'test_survival test_slurm test_prepare test_browser test_readers test_generation test_distributed'.split() # minutes each

def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='run the tests marked slow too')

def pytest_configure(config):
    thorough = config.getoption('--slow') # some seconds of examples, or some thousands of them
    settings.register_profile('nlbs', max_examples=250 if thorough else 25, deadline=None, suppress_health_check=list(HealthCheck))
    settings.load_profile('nlbs')
    config.addinivalue_line('markers', 'slow: minutes rather than seconds; run with --slow')
    config.addinivalue_line('markers', 'needs(name): skipped where a program is absent, failed where $NLBS_REQUIRE names it')

def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda o: o.path.stem not in LONG) # where two files run at a time, none of minutes is left alone at the end
    if config.getoption('--slow'): return
    chosen = [o for o in items if not o.get_closest_marker('slow')]
    config.hook.pytest_deselected(items=[o for o in items if o not in chosen])
    items[:] = chosen

def pytest_runtest_setup(item):
    for mark in item.iter_markers('needs'):
        absent = [o for o in PROGRAMS[mark.args[0]] if not shutil.which(o)]
        if not absent: continue
        required = mark.args[0] in os.environ.get('NLBS_REQUIRE', '').split(',')
        (pytest.fail if required else pytest.skip)(f"{mark.args[0]} is not here: no {', '.join(absent)} on the PATH")

@pytest.fixture
def project(tmp_path):
    "A copy of the project's sources that a test may write into."
    return copy_project(tmp_path/'project')

def run_script(place, name, *args, **env):
    "Run a script of tools/ as `make` would, but from `place`."
    return subprocess.run([sys.executable, ROOT/'tools'/name, *args], cwd=place, env={**os.environ, **env}, capture_output=True, text=True)

@pytest.fixture(scope='session')
def run_tool(tmp_path_factory):
    "Run a script of tools/ in a folder; default: one of its own."
    own = tmp_path_factory.mktemp('place')
    return lambda *args, place=own: run_script(place, *args)

def for_all(tmp_path_factory):
    "The folder of all tests of this call, whichever of its processes they run in."
    own = tmp_path_factory.getbasetemp()
    return own.parent if 'PYTEST_XDIST_WORKER' in os.environ else own

def hostile(place):
    "Surroundings that must not matter: another Python's kernel in front of ours, a folder for temporary files too long for sockets."
    kernel, scratch = place/'module'/'kernels'/'python3', place/('scratch_of_a_job_'*6)/'x'
    for folder in (kernel, scratch): folder.mkdir(parents=True, exist_ok=True)
    (kernel/'kernel.json').write_text('{"argv": ["/bin/false", "{connection_file}"], "display_name": "Python 3", "language": "python"}')
    return dict(JUPYTER_PATH=str(kernel.parent.parent), TMPDIR=str(scratch))

@pytest.fixture(scope='session')
def tiny_run(tmp_path_factory):
    "A finished and evaluated run of seconds, made once for all tests, which only read it: its folder."
    shared = for_all(tmp_path_factory)
    place, said = shared/'tiny', shared/'tiny.txt'
    with (shared/'tiny.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists(): said.write_text(make_tiny(place, hostile(shared/'surroundings')))
    assert said.read_text() == ''
    return place/'results'/'tiny'

def make_tiny(place, surroundings):
    "Make that run; what went wrong."
    place.mkdir()
    for args in (('05_train', 'tiny', 'quick_config'), ('07_evaluate', 'tiny')):
        done = run_script(place, 'notebook.py', *args, **surroundings)
        if done.returncode: return done.stdout[-2000:] + done.stderr[-4000:]
    return ''

@pytest.fixture(scope='session')
def archive(tiny_run):
    "The phantom archive that the tiny run was trained on."
    return tiny_run.parent.parent/'data'/'quick'
