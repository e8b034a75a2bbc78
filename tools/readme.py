"Write README.md from nbs/index.ipynb: without hidden cells; pictures that cells made go to nbs/assets/."
import re
import nbformat
from nbconvert import MarkdownExporter

from project import NBS, ROOT

def visible(
    cells, # of a notebook
)->list:
    "The cells a reader should see, without their directives; of a cell marked `echo: false` what it gives."
    shown = [c for c in cells if not re.search(r'^#\|\s*hide', c.source, re.MULTILINE)]
    for c in shown:
        if re.search(r'^#\|\s*echo:\s*false', c.source, re.MULTILINE): c.metadata.transient = dict(remove_source=True)
        if c.cell_type == 'code': c.source = re.sub(r'^#\|.*\n', '', c.source, flags=re.MULTILINE)
    return shown

def from_root(
    match, # a Markdown link, seen from nbs/
)->str:
    "The same link seen from the root of the checkout."
    return f']({(NBS/match[1]).resolve().relative_to(ROOT).as_posix()})'

def front_page():
    "The text of README.md, and the pictures in it that code cells made: {path from nbs/: bytes}."
    nb = nbformat.read(NBS/'index.ipynb', 4)
    nb.cells, nb.metadata.language_info = visible(nb.cells), dict(name='python') # nbdev_clean leaves no language
    text, found = MarkdownExporter().from_notebook_node(nb, dict(unique_key='index', output_files_dir='assets'))
    text = re.sub(r'\]\((?!https?:|#)([^)]+)\)', from_root, text)
    return text.strip() + '\n', found['outputs']

def main():
    text, pictures = front_page()
    (ROOT/'README.md').write_text(text, encoding='utf-8')
    for old in (NBS/'assets').glob('index_*'): old.unlink()
    for name, data in pictures.items(): (NBS/name).write_bytes(data)

if __name__ == '__main__': main()
