"The documentation site from the notebooks, by Sphinx: tools/docs.py [FOLDER]. A link that leads nowhere is an error."
import inspect, re, shutil, sys, tempfile
from importlib import import_module
from pathlib import Path

import nbformat
from fastcore.docments import DocmentTbl
from nbconvert import MarkdownExporter
from nlbs_cvae.core import mark_made
from sphinx.cmd.build import main as sphinx

from project import NBS, ROOT
from readme import visible

CODE = 'https://github.com/nlbs-cvae/nlbs-cvae/blob/main'
GUIDES = 'architecture first_run your_own_archive cluster site_quick_start transfer what_leaves_your_house reading_the_report extending'.split()
FILES = {ROOT/'README.fr.md': 'README_fr', ROOT/'CONTRIBUTING.md': 'CONTRIBUTING', ROOT/'CHANGELOG.md': 'CHANGELOG', ROOT/'SECURITY.md': 'SECURITY'}
CSS = '''.content { width: 54em }
pre { font-size: .78em }
table.dataframe { display: block; overflow-x: auto; font-size: .8em }
table.docutils { font-size: .85em; margin-left: 0 }
math[display=block] { margin: 1em 0; overflow-x: auto }
'''

def numbered(): return sorted(NBS.glob('[0-9]*_*.ipynb'))
def guides(): return sorted((NBS/'guides').glob('*.ipynb'), key=lambda p: ([*GUIDES, p.stem].index(p.stem), p.stem))
def results(): return sorted((NBS/'guides'/'results').glob('*.ipynb'), key=lambda p: (p.stem.rpartition('_')[0], 'evaluate' in p.stem))
def shown(): return [NBS/'index.ipynb', *guides(), *numbered(), *results()] # explore.ipynb is a page of its own, for voila
def title(path): return re.match('# (.+)', nbformat.read(path, 4).cells[0].source)[1]

def page_of(
    path, # file of the checkout
)->str:   # without suffix; '' where it has no page
    "The page that a notebook or a Markdown file becomes, from the site's top."
    pages = {ROOT/'README.md': 'index', **FILES}
    if path in shown(): return path.relative_to(NBS).with_suffix('').as_posix()
    return pages.get(path, '')

def relink(
    text,   # Markdown
    source, # the file that it is from
)->str:
    "Links to notebooks lead to pages, links to other files of the checkout to the repository; pictures stay."
    def link(found):
        path, mark, anchor = found[1].partition('#')
        target = (source.parent/path).resolve()
        if page := page_of(target): return f"](/{page}.md{mark}{anchor})"
        if not target.exists(): return found[0] # Sphinx will say so
        if target.suffix in ('.png', '.svg'): return f'](/{target.relative_to(ROOT).as_posix()})'
        return f'](<{CODE}/{target.relative_to(ROOT).as_posix()}>)'
    return re.sub(r'\]\((?![a-z]+:|#)([^)\s]+)\)', link, text)

def module_of(
    path, # notebook
):
    "The module that a notebook exports; None where it exports none."
    name = path.stem.partition('_')[2]
    return import_module(f'nlbs_cvae.{name}') if path in numbered() and (ROOT/'nlbs_cvae'/f'{name}.py').exists() else None

def refer(
    text,  # Markdown of a cell
    known, # {exported name: its full name}
)->str:
    "A name in backticks leads to its entry; in headings, links and code blocks it stays as it is."
    def link(found): return f'{{py:obj}}`{found[1]} <{known[found[1]]}>`' if found[1] in known else found[0]
    parts = re.split(r'(^```.*?^```|^#[^\n]*)', text, flags=re.MULTILINE | re.DOTALL)
    return ''.join(o if i % 2 else re.sub(r'(?<!\[)`([A-Za-z_]\w+)`(?!\])', link, o) for i, o in enumerate(parts))

def table(
    obj, # function or class
)->str:
    "Its parameters, as their docments say; nothing where a type is known to its own module alone."
    try: return str(DocmentTbl(obj))
    except NameError: return ''

def signature(
    obj, # function or class
)->str:
    "The names of its parameters: types and defaults are in the table."
    try: return f"({', '.join(o for o in inspect.signature(obj).parameters if o != 'self')})"
    except (ValueError, TypeError): return '()'

def entry(
    name,      # full name
    obj,       # function, class, method or constant
    kind,      # py:function, py:class …
    inside='', # entries of its methods
)->str:
    "One name of the API: docstring and table of parameters; Sphinx makes its anchor, its line in the index and in the search."
    if not callable(obj): return f':::{{py:data}} {name}\n`{str(obj)[:200]}`\n:::'
    doc, fence = (inspect.getdoc(obj) or '').partition('\n\n')[0], '::::' if inside else ':::'
    return f'{fence}{{{kind}}} {name}{signature(obj)}\n{doc}\n\n{table(obj)}\n\n{inside}\n{fence}'

def class_entry(
    name, # full name
    cls,  # the class
)->str:
    "A class with those of its public methods that say something of themselves."
    own = {n: getattr(o, '__func__', o) for n, o in vars(cls).items() if not n.startswith('_')}
    own = {n: o for n, o in own.items() if inspect.isfunction(o) and o.__doc__ and '<lambda>' not in o.__name__}
    return entry(name, cls, 'py:class', '\n\n'.join(entry(f'{name}.{n}', o, 'py:method') for n, o in own.items()))

def api(
    module, # a module or None
)->str:
    "The reference at the end of a notebook's page: all that its module hands out."
    if module is None: return ''
    def one(name, obj): return class_entry(name, obj) if inspect.isclass(obj) else entry(name, obj, 'py:function')
    return '\n\n## API\n\n' + '\n\n'.join(one(f'{module.__name__}.{o}', getattr(module, o)) for o in module.__all__)

def write_notebook(
    path,   # notebook
    source, # folder of pages
    known,  # {exported name: its full name}
):
    "A notebook's page and the pictures that its cells made."
    nb, module, page = nbformat.read(path, 4), module_of(path), source/f'{page_of(path)}.md'
    own = {o: f'{module.__name__}.{o}' for o in module.__all__} if module else {}
    nb.cells, nb.metadata.language_info = visible(nb.cells), dict(name='python') # nbdev_clean leaves no language
    nb.cells = [c for c in nb.cells if not c.source.startswith('#| default_exp')]
    nb.cells[0].source = re.sub(r'^- \w+: .*\n+', '', nb.cells[0].source, flags=re.MULTILINE) # nbdev's own, such as skip_exec
    for i, c in enumerate(nb.cells):
        if c.cell_type == 'markdown': c.source = '#'*bool(i and c.source[:2] == '# ') + refer(relink(c.source, path), {**known, **own})
    text, found = MarkdownExporter().from_notebook_node(nb, dict(unique_key=path.stem, output_files_dir='pictures'))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text + api(module), encoding='utf-8')
    for name, data in found['outputs'].items():
        (page.parent/name).parent.mkdir(exist_ok=True)
        (page.parent/name).write_bytes(data)

def contents()->str:
    "The order of the site: guides, then the notebooks by their numbers, results, and the project's own pages."
    def tree(caption, lines): return f':::{{toctree}}\n:hidden:\n:caption: {caption}\n\n' + '\n'.join(lines) + '\n:::\n'
    numbers = [f"{p.stem.split('_')[0]} {title(p)} </{page_of(p)}>" for p in numbered()]
    return '\n' + '\n'.join([tree('Guides', [f'/{page_of(p)}' for p in guides()]), tree('Notebooks', numbers),
                             tree('Results', [f'/{page_of(p)}' for p in results()]), tree('Project', ['En français </README_fr>', '/CONTRIBUTING', '/SECURITY', '/CHANGELOG'])])

def write_pages(
    source, # an empty folder
):
    "All pages, as Sphinx reads them."
    modules = [o for o in map(module_of, numbered()) if o]
    known = {name: f'{o.__name__}.{name}' for o in modules for name in o.__all__}
    for path in shown(): write_notebook(path, source, known)
    for path, page in FILES.items(): (source/f'{page}.md').write_text(relink(path.read_text(encoding='utf-8'), path), encoding='utf-8')
    with (source/'index.md').open('a', encoding='utf-8') as f: f.write(contents())
    shutil.copytree(NBS/'assets', source/'nbs'/'assets')

def build(
    out, # folder of the site
)->int:  # 0 where all went well
    "Write the site."
    with tempfile.TemporaryDirectory() as tmp:
        source, static = Path(tmp)/'pages', Path(tmp)/'conf'/'static'
        source.mkdir(); static.mkdir(parents=True)
        (static/'docs.css').write_text(CSS)
        shutil.copy(ROOT/'tools'/'conf.py', static.parent)
        write_pages(source)
        return sphinx(['-q', '-n', '-W', '--keep-going', '-d', f'{tmp}/trees', '-c', str(static.parent), str(source), str(out)])

def main(out=ROOT/'_docs'):
    if code := build(out): sys.exit(code)
    mark_made(out, 'docs') # so that `make clean` knows it for ours
    print(f'The documentation: {Path(out)/"index.html"}')

if __name__ == '__main__': main(*sys.argv[1:])
