"What guides, notebooks and docstrings tell their reader to type is typed: a fresh copy of the project, a small archive, every line."
import ast, os, re, shutil, subprocess, sys
from pathlib import Path

import nbformat, pandas as pd, pytest, yaml
from commands import prose, typed
from nlbs_cvae.phantom_archive import write_phantom
from project import NBS, ROOT, copy_project, notebooks

TEXTS = [*(ROOT/o for o in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md')), *notebooks()]

ELSEWHERE = { # what needs more than a copy of the project, or is another test's matter
    r'(bash )?slurm/': 'test_first_run.py test_slurm.py test_slurm_slow.py test_slurm_scripts.py',
    r'make (test|test-all|demo|setup|lab|readme)$': '.ci/run Makefile', # the tests themselves; what every test stands on; what waits for a reader
    r'make quick$': 'conftest.py', r'make (train|evaluate)$': 'conftest.py', # the tiny run; without a run's name they are names
    r'make (docs)$': 'test_docs.py', r'make hooks$': 'test_hooks.py', r'make library$': 'test_structure.py', r'make clean$': 'test_clean.py',
    r'make bench(-quick)?$|papermill nbs/09_benchmark': 'test_bench.py',
    r'papermill nbs/0[57]_\w+.ipynb out.ipynb': 'test_surroundings.py',
    r'nlbs_readers |nlbs_evaluate results/mine --readers': 'test_readers.py', r'nlbs_evaluate results/mine --external': 'nbs/06w_report.ipynb',
    r'make explore|nlbs_explore ': 'test_browser.py', r'make accelerator$|nlbs_accelerator ': 'test_accelerator.py', # eight minutes
}

def docstrings():
    "Our commands in docstrings: what follows a colon, to a semicolon or the end."
    for p in sorted((ROOT/'nlbs_cvae').glob('*.py')):
        for node in ast.walk(ast.parse(p.read_text())):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)): continue
            said = ' '.join((ast.get_docstring(node) or '').split())
            yield from (o.strip() for o in re.findall(r'[:;] ((?:torchrun|papermill|nlbs_\w+|make) [^;]+?)(?=;|$|\. )', said))

def lines(path):
    "The commands of a text that have an argument, or are all of a command; papermill's too."
    found = [*typed(prose(path)), *re.findall(r'^papermill \S+\.ipynb .+', prose(path), re.MULTILINE)]
    return [o for o in dict.fromkeys(found) if ' ' in o and not re.match(r'(\.venv/bin/)?nlbs_\w+ --(?!config)', o)] # not a name, an option

def elsewhere(command): return next((tests for pattern, tests in ELSEWHERE.items() if re.match(pattern, command)), '')

PAGES = {p.stem: here for p in TEXTS if (here := [o for o in lines(p) if not elsewhere(o)])} | {'docstrings': [o for o in docstrings() if not elsewhere(o)]}
PAGES.pop('README') # index renders it

def test_every_command_is_somebodys():
    "Each is run below, or by a test that is there."
    assert all((ROOT/'tests'/o).exists() or (ROOT/o).exists() for tests in ELSEWHERE.values() for o in tests.split())
    assert len(BRIEF) == 5 and len([o for page in PAGES.values() for o in page]) > 20 and {'index', 'docstrings', 'your_own_archive'} <= set(PAGES)
    assert not [o for page in PAGES.values() for o in page if '…' in o or '...' in o], 'a command that nobody can type'

@pytest.fixture(scope='session')
def desk(tmp_path_factory, tiny_run):
    "A copy of the project as its reader has it, with archives of the kinds that the texts speak of, and runs to look at."
    here = copy_project(tmp_path_factory.mktemp('desk')/'nlbs-cvae')
    (here/'.venv').symlink_to(sys.prefix)
    (here/'tools'/'setup.sh').write_text('#!/bin/sh\n') # the environment is there
    table = pd.read_csv(next(write_phantom(here/'data'/'nlbs', women=12, size=(256, 200)).glob('*.csv')), dtype=str)
    rows = [dict(patient_id=p.split('/')[-4], image_id=str(i), laterality=s, view=v, age=a, cancer=c) for i, (p, s, v, a, c, _) in
            enumerate(table.assign(p=table.iloc[:, 0].str.replace('\\', '/'))[['p', *table.columns[1:]]].itertuples(index=False))]
    for row, path in zip(rows, table.iloc[:, 0].str.replace('\\', '/')):
        to = here/'data'/'rsna'/'train_images'/row['patient_id']/f"{row['image_id']}.dcm"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here/'data'/'nlbs'/path.lstrip('/'), to)
    pd.DataFrame(rows).to_csv(here/'data'/'rsna'/'train.csv', index=False)
    code = [c.source for c in nbformat.read(NBS/'guides'/'your_own_archive.ipynb', 4).cells if c.cell_type == 'code' and 'chdir' not in c.source]
    last = next(i for i, c in enumerate(code) if "Path('clinic.yaml').write_text" in c)
    (here/'clinic.py').write_text('\n'.join(code[:last + 1])) # as the guide makes it
    subprocess.run([sys.executable, 'clinic.py'], cwd=here, check=True)
    for run in ('demo', 'myrun'): shutil.copytree(tiny_run, here/'results'/run)
    return here

QUICK = yaml.safe_load((ROOT/'nlbs_cvae'/'configs'/'quick_config.yaml').read_text())

def small(here, command):
    "The command with the reader's archive in place of a placeholder, and numbers of seconds."
    files = dict(settings=yaml.safe_dump(QUICK | dict(data=QUICK['data'] | dict(archive='data/nlbs', resolution=32))),
                 mapping=(ROOT/'nlbs_cvae'/'configs'/'mappings'/'nlbs.yaml').read_text())
    (here/'mine.yaml').write_text(files['settings' if re.search(r'(--config |CONFIG=)mine.yaml', command) else 'mapping'])
    pd.DataFrame(dict(view=['CC', 'MLO'], laterality=['L', 'R'])).to_csv(here/'table.csv', index=False)
    command = command.replace('/path/to/archive', 'data/nlbs').replace('/data/nlbs', 'data/nlbs')
    command = re.sub(r'--n \d+', '--n 4', re.sub(r'--workers \d+', '--workers 2', command))
    if '--women 160' in command: command = command.replace('160', '12 --height 256 --width 200')
    return command.replace('--nproc-per-node 4', '--nproc-per-node 2').replace('age=62', 'age=57') # of twelve women none is 62

def run(here, command):
    "Typed at the desk, with the settings of a run of seconds."
    blocks = {k: v for k, v in QUICK.items() if k != 'data'} | dict(data=dict(resolution=32, batch_size=8, num_workers=0, phantom=0))
    texts = ' '.join(f'{b}.{k}={v}' for b, block in blocks.items() for k, v in block.items()) + ' data.archive=data/nlbs'*('archive' not in command)
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    env = {**os.environ, 'PATH': path, 'OMP_NUM_THREADS': '1', 'NLBS_OVERRIDES': texts*bool(re.search('make train|nlbs_train', command))}
    done = subprocess.run(['bash', '-c', small(here, command)], cwd=here, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f'{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'

SECONDS = r'\.venv/bin/(nlbs_generate (cbis_256|results/demo) |nlbs_prepare data/clinic |nlbs_phantom |jupytext )'
BRIEF = [o for o in dict.fromkeys(o for page in PAGES.values() for o in page) if re.match(SECONDS, o)]

@pytest.mark.parametrize('command', BRIEF)
def test_a_command_of_seconds(desk, command): run(desk, command)

@pytest.mark.slow # trainings, several for most pages: minutes
@pytest.mark.parametrize('page', PAGES)
def test_every_line_of_a_page(desk, page):
    "In its order; runs that a page looks at, and doesn't make, are there."
    for name in {n for o in PAGES[page] for n in re.findall(r'(?:results/|RUN=)(\w+)', o)} - {'demo'}:
        shutil.rmtree(desk/'results'/name, ignore_errors=True)
        if not [o for o in PAGES[page] if f'make train RUN={name}' in o]: shutil.copytree(desk/'results'/'demo', desk/'results'/name)
    for command in PAGES[page]: run(desk, command)

def test_a_wrong_command_would_be_seen(desk):
    with pytest.raises(AssertionError, match='no such folder|no model'): run(desk, 'nlbs_generate results/nothing out --n 4')
