"The benchmark: peers only when asked for, rows that a kill doesn't lose, no paths in what is handed on."
import ast, json
from configparser import ConfigParser

import pytest
from project import ROOT

from nlbs_cvae.bench import PEERS, Seconds, _installed, ratio_changes, keep_results, need_peers, size_of, standing
from nlbs_cvae.speed import bench_metrics
from nlbs_cvae.core import InputError
from nlbs_cvae.peers import PEER_MODELS
from nlbs_cvae.quality import ROWS, bench_quality, row_file

SMALL = dict(minutes=.003, resolution=32, config='quick_config', women=12, seeds=[0], overrides=('model.channels=8', 'data.batch_size=4', 'data.augment=false'))

@pytest.fixture(autouse=True)
def phantom_alone(monkeypatch): monkeypatch.delenv('NLBS_TEST_DATA', raising=False)

def test_peers_are_imported_only_when_asked_for():
    names = {'pythae', 'monai', 'diffusers', 'skimage', 'sklearn'}
    for module in ('bench', 'peers', 'feeding', 'speed', 'quality'):
        tree = ast.parse((ROOT/'nlbs_cvae'/f'{module}.py').read_text())
        at_the_top = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
        tops = {(n.module or '') if isinstance(n, ast.ImportFrom) else a.name for n in at_the_top for a in n.names}
        assert not {t.split('.')[0] for t in tops} & names

def test_what_is_compared_with_is_in_the_extra():
    cfg = ConfigParser()
    cfg.read(ROOT/'settings.ini')
    assert set(PEERS) == set(cfg['DEFAULT']['bench_requirements'].split())

def test_absent_peers_are_named_with_the_way_to_them(monkeypatch):
    monkeypatch.setattr('nlbs_cvae.bench._installed', lambda name: name != 'monai')
    with pytest.raises(InputError, match='monai.*pip install'): need_peers()

def test_sides_that_disagree_are_not_timed(monkeypatch):
    monkeypatch.setattr('nlbs_cvae.speed.our_frechet', lambda a, b: 1.)
    with pytest.raises(InputError, match='disagree'): bench_metrics(size_of('tiny'), scipy=False)

def test_a_killed_table_goes_on_where_it_was(tmp_path, monkeypatch):
    "The second row dies: the first is kept, and isn't trained again."
    from nlbs_cvae import quality
    trained, real = [], quality.train_ours
    def train(s, *args):
        trained.append(s.model.levels)
        if len(trained) == 2: raise KeyboardInterrupt
        return real(s, *args)
    monkeypatch.setattr(quality, 'train_ours', train)
    ask = dict(SMALL, rows=['plain CVAE', 'texture grid'], peers=False)
    with pytest.raises(KeyboardInterrupt): bench_quality(tmp_path, **ask)
    rows = bench_quality(tmp_path, **ask)
    assert trained == [1, 2, 2] and {r['name'] for r in rows} == {'plain CVAE', 'texture grid'}
    assert bench_quality(tmp_path, **ask) == rows and len(trained) == 3
    assert str(tmp_path) not in json.dumps(rows)

def test_another_question_is_another_file(tmp_path):
    files = {row_file(tmp_path, 'plain CVAE', minutes=m, seed=s) for m in (1, 8) for s in (0, 1)}
    assert len(files) == 4 and row_file(tmp_path, 'plain CVAE', minutes=1, seed=0) in files

@pytest.mark.slow
@pytest.mark.parametrize('name', [*ROWS, *PEER_MODELS])
def test_every_row_runs(name, tmp_path):
    if name in PEER_MODELS and not all(map(_installed, PEERS)): pytest.skip("the benchmark's peers are not installed: make bench-quick does it")
    row, = bench_quality(tmp_path, **SMALL, rows=[name])
    assert row['samples'] > 0 and row['reconstructions'] > 0 and 0 <= row['coverage'] <= 1

def test_ratios_are_set_beside_those_of_before(tmp_path):
    def rows(t): return standing('x', dict(ours=[Seconds(1, 1)], peer=[Seconds(t, 1)]), 1)
    assert len(ratio_changes(tmp_path)) == 0
    for t in (2, 3): keep_results(tmp_path, rows(t))
    (change,) = ratio_changes(tmp_path).to_dict('records')
    assert (change['before'], change['now'], change['change']) == (2, 3, .5)

def test_the_quick_form_names_a_wrong_size(run_tool):
    done = run_tool('bench.py', 'huge')
    assert done.returncode and 'quick, full' in done.stderr
