"Shell scripts: shellcheck, bash -n, and nothing that bash 4.2 or the coreutils of its time don't know."
import re, subprocess, sys
from pathlib import Path

import pytest
from project import ROOT

SCRIPTS = sorted([*(ROOT/'tools').glob('*.sh'), *(ROOT/'slurm').rglob('*.sh'), *(ROOT/'slurm').glob('*.slurm'), *(ROOT/'slurm').rglob('*.env'), ROOT/'.ci'/'run'])
FILE = dict(argnames='path', ids=lambda p: str(p.relative_to(ROOT)))

NEWER = { # what came after bash 4.2 (2011) and coreutils 8.22 (2013)
    r'\bwait -n\b': 'bash 4.3', r'\b(local|declare|typeset) -n\b': 'bash 4.3', r'\[-1\]=': 'bash 4.3', r'\$\{\w+@\w\}': 'bash 4.4',
    r'\bmapfile -d\b': 'bash 4.4', r'\breadarray -d\b': 'bash 4.4', r'\blocal -\s': 'bash 4.4', r'\bEPOCH(SECONDS|REALTIME)\b': 'bash 5',
    r'\bSRANDOM\b': 'bash 5.1', r'\bwait -p\b': 'bash 5.1',
    r'\benv -S\b': 'coreutils 8.30', r'\bsha256sum --ignore-missing\b': 'coreutils 8.25', r'\bsync -': 'coreutils 8.24', r'\bnproc --all=': 'never'}

def code(path):
    "A script without its comments."
    return re.sub(r'(?m)(^|\s)#.*', '', path.read_text())

def test_shellcheck():
    found = subprocess.run([Path(sys.executable).with_name('shellcheck'), '-x', *SCRIPTS], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout

@pytest.mark.parametrize(argvalues=SCRIPTS, **FILE)
def test_it_parses(path): subprocess.run(['bash', '-n', path], check=True)

@pytest.mark.parametrize(argvalues=SCRIPTS, **FILE)
def test_nothing_newer_than_bash_4_2(path):
    assert not [f'{o}: {since}' for o, since in NEWER.items() if re.search(o, code(path))]

@pytest.mark.parametrize(argvalues=[p for p in SCRIPTS if p.suffix in ('.sh', '.slurm') and p.name != 'lib.sh' and 'testing' not in p.parts], **FILE)
def test_it_stops_at_the_first_error(path): assert re.search(r'^set -euo pipefail$', path.read_text(), re.MULTILINE)

@pytest.mark.parametrize(argvalues=SCRIPTS, **FILE)
def test_a_function_fits_a_screen(path):
    bodies = re.findall(r'(?ms)^\w+\(\) \{(.*?)^\}', path.read_text())
    assert max([b.count('\n') for b in bodies], default=0) <= 40
