"Remove what can be made again (make clean): what the project can prove to be its own. Links are never followed; what else lies there stays, and is named."
import csv, json, os, re
from pathlib import Path

from project import ROOT

MARK = r'\.nlbs-cvae\.json'
# folders with the project's mark: (place, kind)
MARKED = (('results/demo', 'run'), ('results/quick', 'run'), ('data/phantom', 'archive'), ('data/quick', 'archive'),
          ('data/phantom-cache-64', 'cache'), ('data/quick-cache-32', 'cache'), ('_docs', 'docs'))
# what the project writes into them
WRITTEN = dict(
    run=rf'{MARK}|\.lock|lock\.json|stop|(settings|places)\.yaml|(run|status)\.json|(train|evaluate)(\.\d+)?\.ipynb|checkpoints/[\w.]+\.pth'
        r'|model/(model\.safetensors|config\.json|MODEL_CARD\.md)|logs/(training\.log|history\.csv|tensorboard/events\.[\w.-]+)'
        r'|galleries/([\w.-]+/)*[\w.-]+\.(png|md|txt|json|csv)|metrics/\.private|metrics/checklist\.md|metrics/([\w.-]+/)*[\w.-]+\.(json|csv|png|pdf|npz|npy)|private/(host|([\w.-]+/)*[\w.-]+\.(txt|png|yaml|json|csv|pdf))',
    cache=rf'{MARK}|cache\.json|images\.npy|table\.csv|private/(files|splits|sources|findings|quarantine)\.csv|private/records\.json|private/\w+\.pdf'
          r'|private/finish\.claim|private/work-\w+(\.old)?/\d+\.(npy|json|claim)',
    docs=r'.*')
ARCHIVE = ('phantom.json', 'planted.csv', 'truth.csv', 'NLBSP-metadata.csv', '.nlbs-cvae.json') # beside the images that truth.csv names
# what the tools of others write, by their own names
TOOLS = {'build': r'(lib/nlbs_cvae|bdist\.[^/]+)/.*', 'dist': r'nlbs_cvae-[\w.+-]+\.(whl|tar\.gz)', 'nlbs_cvae.egg-info': r'PKG-INFO|[\w-]+\.txt',
         '.pytest_cache': r'README\.md|\.gitignore|CACHEDIR\.TAG|v/.*', '.hypothesis': r'\.gitignore|(unicode_data|examples|constants|patches|tmp)/.*'}
EVERYWHERE = {'__pycache__': r'[^/]+\.pyc(\.\d+)?', '.ipynb_checkpoints': r'[^/]+-checkpoint\.\w+'}

def kind_of(
    folder,
)->str: # '' where it isn't one that the project made
    "What a folder's mark says (`mark_made` of the library, which this script does without: there may be no .venv any more)."
    mark = folder/'.nlbs-cvae.json'
    try: said = json.loads(mark.read_text()) if mark.is_file() and not mark.is_symlink() else {}
    except (OSError, ValueError): return ''
    mine = isinstance(said, dict) and said.get('made_by') == 'NLBS-CVAE' and said.get('name') == folder.name
    return str(said.get('kind', '')) if mine else ''

def linked(
    path, # below `root`
    root,
)->bool:
    "Is `path`, or a folder on the way to it, a link?"
    return any(p.is_symlink() for p in (path, *path.parents) if p != root and p.is_relative_to(root))

def remove(
    folder, # a folder, no link
    ours,   # (path below it) whether a file is ours
)->list:    # what stays
    "Remove our files of a folder, and the folders that are empty then."
    for place, _, names in os.walk(folder, topdown=False): # which follows no links
        for name in names:
            path = Path(place)/name
            if not path.is_symlink() and ours(path.relative_to(folder).as_posix()): path.unlink()
        if not any(os.scandir(place)): Path(place).rmdir()
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if not p.is_dir() or p.is_symlink()) if folder.exists() else []

def matches(pattern): return lambda path: bool(re.fullmatch(pattern, path) or re.fullmatch(r'(.*/)?\.[^/]+\.tmp', path))

def written(folder, kind):
    "What the project wrote into a marked folder, as `remove` wants it."
    if kind != 'archive': return matches(WRITTEN[kind])
    truth = folder/'truth.csv'
    lines = truth.read_text(encoding='utf-8').splitlines() if truth.is_file() else []
    images = {row['path'] for row in csv.DictReader(lines)}
    return lambda path: path in images or path in ARCHIVE

def tidy(
    root=ROOT, # the checkout
)->list:       # lines about what stays
    "All that can be made again."
    root, said = Path(root), []
    for place, kind in MARKED:
        folder = root/place
        if linked(folder, root): said.append(f'{place}: a link, left alone')
        elif folder.is_dir() and kind_of(folder) != kind: said.append(f'{place}: without the mark of this project, left alone; remove it yourself if it is of an earlier version')
        elif folder.is_dir() and (rest := remove(folder, written(folder, kind))): said.append(f"{place}: kept what is not ours: {', '.join(rest[:5])}{' …'*(len(rest) > 5)}")
    found = [(root/name, pattern) for name, pattern in TOOLS.items()]
    for top in ('nbs', 'nlbs_cvae', 'tests', 'tools', 'slurm'):
        found += [(Path(place)/n, EVERYWHERE[n]) for place, names, _ in os.walk(root/top) for n in names if n in EVERYWHERE]
    for folder, pattern in found:
        if folder.is_dir() and not linked(folder, root) and (rest := remove(folder, matches(pattern))):
            said.append(f"{folder.relative_to(root)}: kept what is not ours: {', '.join(rest[:5])}{' …'*(len(rest) > 5)}")
    return said

if __name__ == '__main__':
    for line in tidy(): print(line)
