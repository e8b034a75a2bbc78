"README.md is the front page of nbs/index.ipynb; the French one is kept in step; pictures, links and commands are real."
import re

import pytest
from commands import prose, typed
from project import NBS, ROOT
from readme import front_page

PAGES = [ROOT/'README.md', ROOT/'README.fr.md']
def text(path): return path.read_text(encoding='utf-8')
def links(path): return re.findall(r'\]\((?!https?:)([^)]+)\)', text(path))
def slug(heading): return re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') # as GitHub makes them

def test_readme_is_in_step():
    found, pictures = front_page()
    assert text(ROOT/'README.md') == found, 'run: make readme'
    kept = {f'assets/{p.name}': p.read_bytes() for p in (NBS/'assets').glob('index_*')}
    assert kept == pictures, 'run: make readme'

@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_what_a_front_page_names_is_there(page):
    anchors = {slug(o) for o in re.findall(r'^#+ (.+)', text(page), re.MULTILINE)}
    assert any(o.endswith('.png') for o in links(page)), 'a front page shows what it is about'
    assert not [o for o in links(page) if not (o[1:] in anchors if o[0] == '#' else (ROOT/o).exists())]

def test_readme_has_what_a_newcomer_looks_for():
    assert not [o for o in ('make demo', 'make test', 'not for diagnosis', 'citation', 'licence') if o not in text(ROOT/'README.md').lower()]

def test_the_french_page_is_in_step():
    "Another language, the same commands in the same order, the same picture, the same sections."
    english, french = map(text, PAGES)
    commands = lambda path: [o for o in typed(prose(path)) if ' ' in o]
    assert list(dict.fromkeys(commands(PAGES[0]))) == list(dict.fromkeys(commands(PAGES[1])))
    assert len(re.findall('^## ', english, re.MULTILINE)) == len(re.findall('^## ', french, re.MULTILINE))
    assert links(PAGES[0])[0] == links(PAGES[1])[0] and links(PAGES[0])[0].endswith('.png')
    assert 'pas pour le diagnostic' in french.lower()
