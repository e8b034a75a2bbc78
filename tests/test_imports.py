"A module imports its elders alone, and nothing that settings.ini doesn't declare."
import ast, re, sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from project import NBS, ROOT

def modules():
    "Each module with its number as the notebook has it: '01d' of 01d_dataset; a letter comes after none."
    return {p.stem.split('_', 1)[1]: p.stem.split('_', 1)[0] for p in NBS.glob('[0-9]*_*.ipynb')}

def imports(
    path, # a Python file
):
    "Names that are imported anywhere in it, inside functions too; relative ones as the package's."
    for node in ast.walk(ast.parse(Path(path).read_text())):
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
    assert upward(path.stem, imports(path), modules()) == []

def test_an_upward_import_would_be_seen(tmp_path):
    (tmp_path/'a.py').write_text('def f():\n    from nlbs_cvae.training import train\n    from . import prior\n')
    assert upward('cvae', imports(tmp_path/'a.py'), dict(cvae='03', prior='03a', training='04b')) == ['prior', 'training']
    assert upward('training', imports(tmp_path/'a.py'), dict(cvae='03', prior='03a', training='04b')) == ['training']

def declared():
    "Distributions that settings.ini asks for at run time."
    cfg = ConfigParser()
    cfg.read(ROOT/'settings.ini')
    names = (cfg['DEFAULT']['requirements'] + cfg['DEFAULT']['pip_requirements']).split()
    return {canonical(re.split(r'[<>=!~]', o)[0]) for o in names}

def canonical(name): return re.sub(r'[-_.]+', '-', name).lower()

@pytest.mark.parametrize('path', LIBRARY, ids=lambda p: p.stem)
def test_what_is_imported_is_declared(path):
    tops = {o.split('.')[0] for o in imports(path)} - set(sys.stdlib_module_names) - {'nlbs_cvae'}
    known = packages_distributions()
    missing = {o for o in tops if not declared() & {canonical(d) for d in known.get(o, [o])}}
    assert not missing, f'{path.name} imports {sorted(missing)}: not in requirements of settings.ini'

def test_the_pins_cover_what_is_declared():
    pinned = {canonical(o.split('==')[0]) for o in (ROOT/'constraints.txt').read_text().splitlines() if '==' in o}
    assert declared() <= pinned
