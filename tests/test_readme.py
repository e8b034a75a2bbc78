"README.md is the front page of nbs/index.ipynb, and its pictures and commands are there."
import re

from project import NBS, ROOT
from readme import front_page

def test_readme_is_in_step():
    text, pictures = front_page()
    assert (ROOT/'README.md').read_text(encoding='utf-8') == text, 'run: make readme'
    kept = {f'assets/{p.name}': p.read_bytes() for p in (NBS/'assets').glob('index_*')}
    assert kept == pictures, 'run: make readme'

def test_what_readme_names_is_there():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    links = re.findall(r'\]\((?!https?:)([^)]+)\)', text)
    assert any(o.endswith('.png') for o in links), 'a front page shows what it is about'
    assert not [o for o in links if not (ROOT/o).exists()]
    targets = set(re.findall(r'^([a-z-]+):', (ROOT/'Makefile').read_text(), re.MULTILINE))
    assert set(re.findall(r'\bmake ([a-z][a-z-]*)', text)) <= targets
    scripts = re.findall(r'^    (\w+)=', (ROOT/'settings.ini').read_text(), re.MULTILINE)
    assert set(re.findall(r'\bnlbs_(?!cvae)\w+', text)) <= set(scripts)

def test_readme_has_what_a_newcomer_looks_for():
    text = (ROOT/'README.md').read_text(encoding='utf-8').lower()
    assert not [o for o in ('make demo', 'make test', 'not for diagnosis', 'citation', 'licence') if o not in text]
