"A module imports its elders alone, and nothing that settings.ini doesn't declare."
import ast, re, sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions

import nbformat, pytest
from project import NBS, ROOT, notebooks

def modules():
    "Each module with its number as the notebook has it: '01m' of 01m_dataset; a letter comes after none."
    return {p.stem.split('_', 1)[1]: p.stem.split('_', 1)[0] for p in NBS.glob('[0-9]*_*.ipynb')}

def imports(
    text, # Python
):
    "Names that are imported anywhere in it, inside functions too; relative ones as the package's."
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import): yield from (o.name for o in node.names)
        if isinstance(node, ast.ImportFrom):
            base = '.'.join(filter(None, ['nlbs_cvae' if node.level else '', node.module]))
            yield base
            if base == 'nlbs_cvae': yield from (f'nlbs_cvae.{o.name}' for o in node.names)

def upward(
    name,    # of a module
    imported, # names that it imports
    order,   # {module: number}
):
    "What is imported from the module's own number or a later one."
    ours = {o.split('.')[1] for o in imported if o.startswith('nlbs_cvae.')}
    return sorted(o for o in ours & set(order) if order[o] >= order[name])

LIBRARY = sorted(p for p in (ROOT/'nlbs_cvae').glob('*.py') if p.stem not in ('__init__', '_modidx'))

@pytest.mark.parametrize('path', LIBRARY, ids=lambda p: p.stem)
def test_nothing_is_imported_from_a_later_number(path):
    assert upward(path.stem, imports(path.read_text()), modules()) == []

def test_an_upward_import_would_be_seen():
    text = 'def f():\n    from nlbs_cvae.training import train\n    from . import prior\n'
    assert upward('cvae', imports(text), dict(cvae='03', prior='03a', training='04b')) == ['prior', 'training']
    assert upward('training', imports(text), dict(cvae='03', prior='03a', training='04b')) == ['training']

def declared(
    *keys, # of settings.ini
):
    "Distributions that settings.ini asks for."
    cfg = ConfigParser()
    cfg.read(ROOT/'settings.ini')
    return {canonical(re.split(r'[<>=!~]', o)[0]) for k in keys for o in cfg['DEFAULT'][k].split()}

RUN, WRITE = ('requirements', 'pip_requirements'), ('dev_requirements', 'web_requirements', 'bench_requirements')
EXTRA = dict(bench='bench_requirements', peers='bench_requirements', feeding='bench_requirements', speed='bench_requirements', quality='bench_requirements', page='web_requirements', masks='seg_requirements', extractors='frd_requirements') # imported when it is asked for

def canonical(name): return re.sub(r'[-_.]+', '-', name).lower()

def undeclared(
    imported, # names
    *keys,    # of settings.ini
):
    "Top-level packages that are imported and belong to no distribution that is asked for."
    known, ours = packages_distributions(), {'nlbs_cvae', *(p.stem for o in ('tools', 'tests') for p in (ROOT/o).glob('*.py'))}
    tops = {o.split('.')[0] for o in imported} - set(sys.stdlib_module_names) - ours - {'pip'} # it installs the others
    return {o for o in tops if not declared(*keys) & {canonical(d) for d in known.get(o, [o])}}

@pytest.mark.parametrize('path', LIBRARY, ids=lambda p: p.stem)
def test_what_the_library_imports_is_declared(path):
    asked = [*RUN, *filter(None, [EXTRA.get(path.stem)])]
    assert not undeclared(imports(path.read_text()), *asked), 'put it into requirements of settings.ini, and pinned into constraints.txt'

def code(path):
    "A notebook's code as one text, without shell commands and magics."
    lines = '\n'.join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == 'code').splitlines()
    return '\n'.join(l for l in lines if not l.lstrip().startswith(('!', '%')))

@pytest.mark.parametrize('path', [*notebooks(), *sorted((ROOT/'tests').glob('*.py')), *sorted((ROOT/'tools').glob('*.py'))], ids=lambda p: p.stem)
def test_what_notebooks_tests_and_tools_import_is_declared(path):
    text = code(path) if path.suffix == '.ipynb' else path.read_text()
    assert not undeclared(imports(text), *RUN, *WRITE, 'seg_requirements', 'frd_requirements'), 'put it into dev_requirements of settings.ini, and pinned into constraints.txt'

def test_the_pins_cover_what_is_declared():
    pinned = {canonical(o.split('==')[0]) for o in (ROOT/'constraints.txt').read_text().splitlines() if '==' in o}
    assert declared(*RUN, *WRITE) <= pinned
