"""Git's clean filter for a notebook, standard input to output: what nbdev's `clean_nb` does, which a test compares.

It needs the standard library alone and reads the settings beside it, because what git runs must not lie where a branch can put
files, in .venv or elsewhere in the tree; and its time grows as a notebook does, whatever is written there."""
import json, re, sys
from configparser import RawConfigParser
from pathlib import Path

settings = RawConfigParser()
settings.read(Path(__file__).with_suffix('.ini'), encoding='utf-8')
def allowed(name): return settings.get('DEFAULT', f'allowed_{name}_keys', fallback='').split()
NOTEBOOK = {'kernelspec', 'jekyll', 'jupytext', 'doc', 'widgets', *allowed('metadata')}
CELL = {'hide_input', *allowed('cell_metadata')}

def kept(d, keys): return {k: v for k, v in d.items() if k in keys}

def without_address(text):
    "`<object at 0x7f…>` → `<object>`, in a text or a list of lines."
    if isinstance(text, list): return [without_address(t) for t in text]
    parts, end = [], 0
    for o in re.finditer(r' at 0x[0-9a-fA-F]+(?=>)', text):
        before, end = text[end:o.start()], o.end()
        parts += [before, '' if '<' in before[before.rfind('\n') + 1:] else o[0]]
    return ''.join(parts) + text[end:]

def clean_output(output):
    if 'execution_count' in output: output['execution_count'] = None
    if 'text' in output: output['text'] = without_address(output['text'])
    data = output.get('data', {})
    data.pop('application/vnd.google.colaboratory.intrinsic+json', None)
    for kind, value in data.items():
        if kind.startswith('text'): data[kind] = without_address(value)
        if kind.startswith('image') and 'svg' not in kind: data[kind] = value.rstrip()

def clean(nb):
    "`nb` without counts, addresses and metadata that change from run to run."
    for cell in nb['cells']:
        if 'execution_count' in cell: cell['execution_count'] = None
        if cell['source'] == ['']: cell['source'] = []
        cell['metadata'] = kept(cell['metadata'], CELL)
        for output in cell.get('outputs', []): clean_output(output)
    kernel = nb['metadata'].get('kernelspec', {})
    if kernel.get('name'): kernel['display_name'] = kernel['name']
    nb['metadata'] = kept(nb['metadata'], NOTEBOOK)
    return nb

if __name__ == '__main__':
    for stream in (sys.stdin, sys.stdout): stream.reconfigure(encoding='utf-8')
    sys.stdout.write(json.dumps(clean(json.load(sys.stdin)), sort_keys=True, indent=1, ensure_ascii=False) + '\n')
