"The house: one notebook, one module; each notebook in the order that readers expect; the tree in step and clean."
import ast, json, re, subprocess, sys
from pathlib import Path

import nbformat, pytest
from project import NBS, ROOT, RUNNERS, notebooks

ALL = notebooks()
NUMBERED = sorted(NBS.glob('[0-9]*_*.ipynb'))
MODULES = [p for p in NUMBERED if p.stem not in RUNNERS]
NB = dict(argnames='path', ids=lambda p: p.stem)

def cells(path, kind=None): return [c for c in nbformat.read(path, 4).cells if kind in (None, c.cell_type)]
def directives(cell): return [l[2:].strip() for l in cell.source.splitlines() if l.startswith('#|')]
def hidden(cell): return cell.cell_type == 'code' and 'hide' in directives(cell)

def tool(project, name, *args):
    "Run a command of .venv/bin in a copy of the project."
    subprocess.run([Path(sys.executable).with_name(name), *args], cwd=project, check=True, capture_output=True, text=True)

def differences(project, pattern):
    "Files that differ between the checkout and its copy, or are in one alone."
    names = {p.relative_to(top) for top in (ROOT, project) for p in top.glob(pattern) if '.ipynb_checkpoints' not in p.parts}
    def content(p): return p.read_bytes() if p.exists() else None
    return sorted(str(o) for o in names if content(ROOT/o) != content(project/o))

def test_notebooks_are_clean(project):
    tool(project, 'nbdev_clean')
    assert differences(project, 'nbs/**/[!_]*.ipynb') == [], 'run: make library'

def test_library_is_in_step(project):
    for p in (project/'nlbs_cvae').glob('[!_]*.py'): p.unlink() # each must come back as it is
    tool(project, 'nbdev_export')
    assert differences(project, 'nlbs_cvae/*.py') == [], 'run: make library'

def test_modules_and_notebooks_pair_up():
    exported = {p.stem for p in (ROOT/'nlbs_cvae').glob('*.py')} - {'__init__', '_modidx'}
    assert exported == {p.stem.split('_', 1)[1] for p in MODULES}
    assert {p.stem for p in NUMBERED} >= set(RUNNERS)

@pytest.mark.parametrize(argvalues=ALL, **NB)
def test_every_notebook(path):
    assert path.stat().st_size < 500_000, 'trim its outputs'
    nb = json.loads(path.read_text())
    ids = [c.get('id') for c in nb['cells']]
    assert nb['nbformat'] == 4 and all(ids) and len(set(ids)) == len(ids), 'each cell needs an id of its own'
    assert nb['metadata'].get('kernelspec', {}).get('name') == 'python3', 'papermill looks for its kernel'
    assert 'widgets' not in nb['metadata'], 'the state of widgets holds their images, and nbdev_clean keeps it: remove it'
    assert not re.search(r'\b(TODO|FIXME|XXX)\b', ''.join(''.join(c['source']) for c in nb['cells']))
    title = ''.join(nb['cells'][0]['source'])
    assert nb['cells'][0]['cell_type'] == 'markdown' and re.match(r'# \S.*\n+> \S', title), 'cell 1: # title, then > summary'

# an absolute path of a disk, other than the made-up homes of examples; an installed package; a user's folder elsewhere
MACHINE = re.compile(r'(?:site|dist)-packages|(?<![\w.:/<])/(?:home(?!/roe)|root|work|Users|tmp|private|var|opt|mnt|srv|scratch)/[\w.]|[A-Z]:\\+Users')

def output_text(output):
    "All that an output says in words; pictures are words only where they are drawn as such."
    shown = {k: v for k, v in output.get('data', {}).items() if not k.startswith('image/') or 'svg' in k}
    return json.dumps([output.get('text', ''), output.get('traceback', ''), output.get('evalue', ''), shown], ensure_ascii=False)

@pytest.mark.parametrize(argvalues=ALL, **NB)
def test_no_output_names_the_machine(path):
    "Where a notebook was executed is nobody's business, and another output with every execution."
    said = {c.id: found[0] for c in cells(path, 'code') for o in c.outputs if (found := MACHINE.search(output_text(o)))}
    assert not said, 'print it within `without_folders` (00_core)'

@pytest.mark.parametrize('text', ['/home/anna/x.py', '/root/.cache', '/scratch/anna/nbs', '/Users/anna/a', '/tmp/tmpk0jvssb2/cli', "'/tmp/ipykernel_3/1.py:3'",
                                  '.venv/lib/python3.11/site-packages/torch/x.py:8: UserWarning', 'C:\\Users\\anna', '(/var/folders/x)'])
def test_a_machine_is_recognised(text): assert MACHINE.search(output_text(dict(text=text)))

@pytest.mark.parametrize('text', ['/home/roe/a.csv', 'results/demo/model', '…/prepared', 'https://host/home/x', '3/4', 'a/home/b', 'private/errors.txt'])
def test_what_is_no_machine(text): assert not MACHINE.search(output_text(dict(text=text)))

@pytest.mark.parametrize(argvalues=MODULES, **NB)
def test_module_notebook_order(path):
    first, *rest, last = cells(path)
    code = [c for c in rest if c.cell_type == 'code']
    assert code[0].source.strip() == f"#| default_exp {path.stem.split('_', 1)[1]}"
    exported = next(c for c in code[1:] if 'export' in directives(c))
    assert 'import' in exported.source and code[1:].index(exported) <= 1, 'the exported imports come next'
    assert any(hidden(c) and 'import' in c.source for c in code[1:4]), 'a hidden cell imports what the tests need'
    assert hidden(last) and 'nbdev_export()' in last.source

@pytest.mark.parametrize(argvalues=[NBS/f'{o}.ipynb' for o in RUNNERS], **NB)
def test_runner(path):
    code = cells(path, 'code')
    assert sum('parameters' in c.metadata.get('tags', []) for c in code) == 1, 'papermill looks for one cell with the tag'
    assert not any(c.outputs or c.execution_count for c in code), 'a runner is kept without outputs'
    assert len(code) <= 16

def library(): return [p for p in sorted((ROOT/'nlbs_cvae').glob('[!_]*.py'))]

@pytest.mark.parametrize('path', library(), ids=lambda p: p.stem)
def test_a_room_is_small(path):
    "A module fits in an hour's reading, an exported cell on a screen, a line in a window beside another."
    text = path.read_text()
    lines = [l for l in text.splitlines() if l.strip() and not l.startswith('# %% ')] # without what stands between cells
    assert len(lines) <= 450
    cut = [cell.strip().splitlines() for cell in re.split(r'^# %% .*$', text, flags=re.MULTILINE)[1:]]
    assert not {len(body): body[0] for body in cut if len(body) > 40}
    long = [l for l in lines if len(l) > 120 and not l.startswith(('__all__', '"""'))] # these nbdev writes
    assert not long

def test_a_name_stands_for_one_thing():
    "A word that two rooms define has two meanings. Methods are patched onto their class, never assigned to it afterwards."
    homes = {}
    for path in library():
        for node in ast.parse(path.read_text()).body:
            patched = any('patch' in ast.unparse(o) for o in getattr(node, 'decorator_list', []))
            names = [] if patched else [node.name] if hasattr(node, 'name') else [o.id for t in getattr(node, 'targets', []) for o in ast.walk(t) if isinstance(o, ast.Name) and isinstance(o.ctx, ast.Store)]
            assert not any(isinstance(t, ast.Attribute) for t in getattr(node, 'targets', [])), f'{path.name}:{node.lineno}'
            for name in names: homes.setdefault(name, set()).add(path.stem)
    assert not {k: sorted(v) for k, v in homes.items() if len(v) > 1 and k not in ('__all__', '__getattr__')}

def test_what_a_room_keeps_to_itself_is_not_imported():
    found = [f'{p.name}: {o.name}' for p in library() for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.ImportFrom) and n.level
             for o in n.names if o.name.startswith('_') and not o.name.startswith('__')]
    assert not found

def test_no_pickle_is_loaded():
    "A file that somebody sent must not be able to run code."
    found = [f'{p.name}: {l.strip()}' for p in (ROOT/'nlbs_cvae').glob('*.py') for l in p.read_text().splitlines()
             if re.search(r'weights_only\s*=\s*False|pickle\.load|load_learner\(', l)]
    assert not found
