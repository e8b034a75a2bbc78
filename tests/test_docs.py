"The documentation site: it builds without a network, its links lead somewhere, its order is that of the numbers."
import re, subprocess, sys
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from project import NBS, ROOT, RUNNERS

class Page(HTMLParser):
    "What a page links to, what it loads, and the anchors in it."
    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if 'id' in attrs: self.anchors.add(attrs['id'])
        if tag == 'a' and attrs.get('href'): self.links.append(attrs['href'])
        if tag == 'link' and attrs.get('rel') in ('stylesheet', 'preconnect', 'icon', 'preload'): self.loaded.append(attrs['href'])
        if tag in ('script', 'img', 'iframe') and attrs.get('src'): self.loaded.append(attrs['src'])

def docs(root, out): return subprocess.run([sys.executable, root/'tools'/'docs.py', out], capture_output=True, text=True)

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The site: {path from its top: Page}, and where it lies."
    out = tmp_path_factory.mktemp('site')
    done = docs(ROOT, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return {p.relative_to(out).as_posix(): Page(p) for p in out.rglob('*.html')}, out

def test_every_link_and_anchor(site):
    pages, out = site
    broken = []
    for name, page in pages.items():
        for link in [o for o in page.links + page.loaded if not re.match('https?:|mailto:|data:', o)]:
            path, _, anchor = unquote(re.sub(r'\?[^#]*', '', link)).partition('#')
            target = ((out/name).parent/path).resolve() if path else out/name
            known = pages.get(target.relative_to(out.resolve()).as_posix() if path else name)
            if not target.exists() or anchor and known and anchor not in known.anchors: broken.append((name, link))
    assert len(pages) > 20 and not broken

def test_nothing_is_fetched(site):
    assert not [(n, o) for n, page in site[0].items() for o in page.loaded if re.match('https?:|//', o)]

def test_pages_in_the_order_of_the_numbers(site):
    shown = [o for o in site[0]['index.html'].links if re.match(r'\d\d\w*_\w+\.html$', o)]
    assert list(dict.fromkeys(shown)) == [f'{p.stem}.html' for p in sorted(NBS.glob('[0-9]*_*.ipynb'))]
    guides = {f'guides/{p.stem}.html' for p in (NBS/'guides').glob('*.ipynb')}
    assert guides | {'README_fr.html', 'CONTRIBUTING.html', 'CHANGELOG.html'} <= set(site[0]['index.html'].links)

def test_every_exported_name_has_its_entry(site):
    pages, out = site
    for path in sorted(NBS.glob('[0-9]*_*.ipynb')):
        if path.stem in RUNNERS or not (module := ROOT/'nlbs_cvae'/f"{path.stem.partition('_')[2]}.py").exists(): continue
        names = re.search(r'^__all__ = \[(.*?)\]', module.read_text(), re.MULTILINE | re.DOTALL)[1]
        missing = {f'nlbs_cvae.{module.stem}.{o}' for o in re.findall(r"'(\w+)'", names)} - pages[f'{path.stem}.html'].anchors
        assert not missing
    assert '<td><p>width of the condition embedding</p></td>' in (out/'02_layers.html').read_text() # a docment, in its table

def test_figures_formulas_and_hidden_cells(site):
    pages, out = site
    assert any(o.startswith('_images/04f_training') for o in pages['04f_training.html'].loaded)
    assert 'def draw(' not in (out/'guides'/'architecture.html').read_text() # echo: false
    assert 'skip_exec' not in (out/'guides'/'results'/'benchmark.html').read_text() # a word to nbdev_test
    losses = (out/'04_losses.html').read_text()
    assert '<math' in losses and '$$' not in losses and 'nbdev_export' not in losses and '#| export' not in losses

def test_a_link_that_leads_nowhere_is_an_error(project, tmp_path):
    front, links = project/'nbs'/'index.ipynb', ('nothing.ipynb', '03_cvae.ipynb#nowhere', '../noone.md')
    text = front.read_text(encoding='utf-8')
    front.write_text(text.replace('(guides/architecture.ipynb)', ' [more]'.join(f'({o})' for o in links)), encoding='utf-8')
    done = docs(project, tmp_path/'site')
    assert done.returncode and not [o for o in ('nothing', 'nowhere', 'noone') if o not in done.stderr]

def test_quarto_lists_what_is_there():
    "Nobody here has quarto: that its globs find all pages is what can be held without it."
    import yaml
    quarto = yaml.safe_load((NBS/'_quarto.yml').read_text())
    found = [p for o in quarto['project']['render'] for p in NBS.glob(o)]
    assert {NBS/'index.ipynb', *NBS.glob('[0-9]*_*.ipynb'), *(NBS/'guides').glob('*.ipynb')} == set(found)
    assert [sorted(NBS.glob(o['contents'])) for o in quarto['website']['sidebar']['contents']] == [
        sorted((NBS/'guides').glob('*.ipynb')), sorted(NBS.glob('[0-9]*_*.ipynb'))]
