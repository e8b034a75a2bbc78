"`make clean` removes what the project made and can prove to have made, and nothing else."
import os, shutil, subprocess, sys
from pathlib import Path

import pytest
from nlbs_cvae.settings import load_settings
from nlbs_cvae.core import made_here, mark_made, write_atomic
from nlbs_cvae.cache import cache_of
from nlbs_cvae.dataset import get_data
from project import ROOT
from tidy import MARKED, kind_of, remove, tidy, written

def put(folder, *names, text='mine'):
    for name in names: write_atomic(folder/name, text)
    return folder

def everything(folder): return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_symlink() or not p.is_dir())

@pytest.fixture
def checkout(tmp_path):
    "What a user may have beside what the project made."
    root = tmp_path/'check out'
    put(root, 'data/phantom_QC_2024/scan.dcm', 'data/quickscan_archive/scan.dcm', 'data/phantom/my own.dcm', 'results/mine/model/model.safetensors',
        'nbs/my folder/__pycache__/a.cpython-311.pyc', 'nbs/my folder/notes.ipynb', 'nbs/my', 'nbs/.ipynb_checkpoints/a-checkpoint.ipynb',
        'nbs/.ipynb_checkpoints/thesis.ipynb', 'dist/nlbs_cvae-1.0-py3-none-any.whl', 'dist/thesis.pdf', 'build/lib/nlbs_cvae/core.py', 'build/house.png',
        '_docs/index.html', '.hypothesis/examples/a/b', '.pytest_cache/v/cache/lastfailed')
    put(root/'results'/'demo', 'settings.yaml', 'run.json', 'checkpoints/last.pth', 'logs/tensorboard/events.out.tfevents.1.host.2.0', 'thesis.docx', 'galleries/epoch_001/17_patient.dcm')
    mark_made(root/'results'/'demo', 'run')
    return root

def test_what_is_the_users_stays(checkout):
    said = tidy(checkout)
    assert everything(checkout) == sorted(['data/phantom_QC_2024/scan.dcm', 'data/quickscan_archive/scan.dcm', 'data/phantom/my own.dcm', 'results/mine/model/model.safetensors',
        'nbs/my folder/notes.ipynb', 'nbs/my', 'nbs/.ipynb_checkpoints/thesis.ipynb', 'dist/thesis.pdf', 'build/house.png', '_docs/index.html',
        'results/demo/thesis.docx', 'results/demo/galleries/epoch_001/17_patient.dcm'])
    assert any('data/phantom: without the mark' in line for line in said) and any('results/demo: kept what is not ours' in line and 'thesis.docx' in line for line in said)

@pytest.mark.parametrize('linked', ['data', 'data/quick', 'results', 'results/demo', 'nbs', '.hypothesis', 'dist'])
def test_links_are_not_followed(checkout, tmp_path, linked):
    "Also where the project's mark lies at their end."
    away = tmp_path/'away'
    put(away, 'settings.yaml', 'quick/NLBSP-metadata.csv', 'demo/run.json', '__pycache__/a.pyc', 'examples/a', 'nlbs_cvae-1.whl')
    for name, kind in (('', 'run'), ('quick', 'archive'), ('demo', 'run')): mark_made(away/name, kind)
    shutil.rmtree(checkout/linked, ignore_errors=True)
    (checkout/linked).parent.mkdir(parents=True, exist_ok=True)
    (checkout/linked).symlink_to(away)
    before = everything(away)
    tidy(checkout)
    assert everything(away) == before and (checkout/linked).is_symlink()

def test_links_inside_of_our_folders_stay(checkout, tmp_path):
    put(tmp_path/'women', 'a.pth', 'b.png')
    (checkout/'results'/'demo'/'galleries'/'epoch_002').symlink_to(tmp_path/'women')
    (checkout/'results'/'demo'/'checkpoints'/'best.pth').symlink_to(tmp_path/'women'/'a.pth')
    tidy(checkout)
    assert everything(tmp_path/'women') == ['a.pth', 'b.png'] and (checkout/'results'/'demo'/'checkpoints'/'best.pth').is_symlink()

def test_a_copy_under_another_name_is_not_what_was_made(checkout):
    shutil.copytree(checkout/'results'/'demo', checkout/'results'/'quick')
    before = everything(checkout/'results'/'quick')
    tidy(checkout)
    assert everything(checkout/'results'/'quick') == before
    assert kind_of(checkout/'results'/'quick') == made_here(checkout/'results'/'quick') == ''

def test_archive_and_cache_go_whole(tmp_path):
    "All that the library writes is known to be ours; a woman's image that was put beside it is not."
    s = load_settings('quick_config', [f'data.archive={tmp_path}/data/quick', 'data.phantom=4'])
    cache = get_data(s).path
    assert (kind_of(tmp_path/'data'/'quick'), kind_of(cache)) == (made_here(tmp_path/'data'/'quick'), made_here(cache)) == ('archive', 'cache')
    put(tmp_path/'data'/'quick'/'normal', 'woman.dcm')
    tidy(tmp_path)
    assert everything(tmp_path/'data') == ['quick/normal/woman.dcm'] and not cache.exists()

def test_a_run_goes_whole(tiny_run, tmp_path):
    copy = Path(shutil.copytree(tiny_run, tmp_path/'tiny'))
    assert kind_of(copy) == 'run' and remove(copy, written(copy, 'run')) == [] and not copy.exists()

def test_the_places_are_those_of_the_packaged_settings(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv('NLBS_OVERRIDES', raising=False)
    for config in ('demo_config', 'quick_config'):
        s = load_settings(config)
        for path in (Path(s.data.archive), cache_of(s.data)): assert path.relative_to(ROOT).as_posix() in dict(MARKED)

def test_it_runs_without_the_environment(project):
    "After .venv is gone there may still be something to clean."
    put(project, 'data/phantom_mine/a.dcm')
    (project/'results'/'demo').mkdir(parents=True)
    mark_made(project/'results'/'demo', 'run')
    done = subprocess.run([sys.executable, '-S', project/'tools'/'tidy.py'], capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'})
    assert done.returncode == 0, done.stderr
    assert not (project/'results'/'demo').exists() and (project/'data'/'phantom_mine'/'a.dcm').exists()
