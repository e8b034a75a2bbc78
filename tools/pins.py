"""Write the lists that set-up installs, from constraints.txt: every package with the SHA-256 of all its files, so that a package
index can give nothing else, whatever the Python, system and processor.

    .venv/bin/python tools/pins.py              what is pinned anew is looked up at pypi.org, the rest is as it was
    .venv/bin/python tools/pins.py torch cu126  constraints-torch-cu126.txt, from PyTorch's own index, for a cluster
"""
import json, re, sys, urllib.request
from importlib.metadata import PackageNotFoundError, distribution

try: from packaging import requirements, utils, version as versions
except ImportError: from pip._vendor.packaging import requirements, utils, version as versions # any Python with pip will do

from project import ROOT

PYPI, PYTORCH = 'https://pypi.org/simple', 'https://download.pytorch.org/whl'
HEADS = {
    'hpc': 'What a cluster needs, exactly, but for torch. slurm/setup.sh installs it, slurm/wheelhouse.sh collects it.',
    'dev': 'What make setup installs, exactly, but for torch.',
    'bench': 'What make bench installs beside that: the libraries that the benchmark compares with, and what those need.',
    'torch': "torch as pypi.org has it: on Linux for CUDA 13, with NVIDIA's libraries; on a Mac for its own processor.",
}
WRITTEN = '# {}\n# Written by:  .venv/bin/python tools/pins.py{}\n'
CUDA = re.compile('cuda-|nvidia-|triton')

def plain(name): return re.sub('[-_.]+', '-', name).lower()

def get(url, accept='*/*'):
    "What lies at an address, as text."
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(Accept=accept)), timeout=60) as f: return f.read().decode()

def of_version(
    file,    # name of a file of a package index
    version, # wanted
)->bool:
    "Is this a wheel or source of the version, for a Python from 3.11 on?"
    try:
        if not file.endswith('.whl'): return utils.parse_sdist_filename(file)[1] == versions.Version(version)
        _, found, _, tags = utils.parse_wheel_filename(file)
    except (utils.InvalidSdistFilename, utils.InvalidWheelFilename): return False
    old = re.compile(r'cp2|cp3[0-9]$|cp310$|pp|graalpy')
    return found == versions.Version(version) and any(t.interpreter.startswith('py') or t.abi == 'abi3' or not old.match(t.interpreter) for t in tags)

def looked_up(
    pin, # name==version
)->list: # of hashes, sorted
    "The hashes of a release's files at pypi.org."
    name, version = pin.split('==')
    files = json.loads(get(f'{PYPI}/{plain(name)}/', 'application/vnd.pypi.simple.v1+json'))['files']
    if not (found := sorted(f['hashes']['sha256'] for f in files if of_version(f['filename'], version))): raise SystemExit(f'{pin}: pypi.org has no file of it')
    return found

def listed()->dict: # {pin: hashes}
    "What the lists have already: a release's files never change."
    lists = [p for k in HEADS if (p := ROOT/f'constraints-{k}.txt').exists()]
    lines = [l for p in lists for l in p.read_text().replace('\\\n', ' ').splitlines()] # a pin and all its hashes
    return {l.split()[0]: re.findall('sha256:([0-9a-f]{64})', l) for l in lines if '==' in l and not l.startswith('#')}

def needed(
    wanted,  # requirements, as metadata has them
    **there, # what is other there than here, in the words of markers: python_version='3.13'
)->set:      # of plain names
    "Names of all packages behind requirements, with the extras that these ask for and no others."
    seen, wanted = set(), [(o, '') for o in wanted]
    while wanted:
        text, extra = wanted.pop()
        r = requirements.Requirement(text)
        if r.marker and not r.marker.evaluate({**there, 'extra': extra}): continue
        for asked in {'', *r.extras} - {e for n, e in seen if n == plain(r.name)}:
            seen.add((plain(r.name), asked))
            try: wanted += [(o, asked) for o in distribution(r.name).requires or []]
            except PackageNotFoundError: pass # of the benchmark, where that isn't installed
    return {name for name, _ in seen}

def sets(
    pins, # {plain name: pin}
)->dict:  # {list: names}
    "Which package belongs to which list."
    ours = distribution('nlbs_cvae').requires
    cuda = {n for n in pins if CUDA.match(n)}
    hpc = needed(ours) | {'setuptools', 'wheel'}
    dev = hpc | needed(['nlbs_cvae[dev]'])
    apart = {'torch', 'torchvision', 'nlbs-cvae'} | cuda # torch comes from an index of its own; nothing here needs torchvision
    found = dict(hpc=hpc - apart, dev=dev - apart, bench={*pins} - dev - apart, torch={'torch'} | cuda)
    bench = needed(['nlbs_cvae[bench]']) - apart # what these need in turn is seen where they are installed
    if missing := set().union(bench, *found.values()) - {*pins}: raise SystemExit(f"constraints.txt pins no {', '.join(sorted(missing))}")
    return found

def written(
    pins,   # to list
    hashes, # {pin: hashes}
    head,   # what the list is
    call='',# how it is written, after the program's name
)->str:
    "A list in pip's form. NVIDIA's libraries are for Linux alone."
    def line(pin): return pin + " ; sys_platform == 'linux'"*bool(CUDA.match(pin))
    return WRITTEN.format(head, call) + ''.join(' \\\n    --hash=sha256:'.join([line(o), *hashes[o]]) + '\n' for o in sorted(pins, key=str.lower))

def torch_list(
    kind, # cu126, cpu …
)->str:
    "torch for a CUDA, and what it asks for, with the hashes that PyTorch's index lists today."
    version = re.search(r'^torch==(\S+)', (ROOT/'constraints.txt').read_text(), re.MULTILINE)[1]
    links = re.findall(r'href="([^"#]+)#sha256=([0-9a-f]{64})"', get(f'{PYTORCH}/{kind}/torch/'))
    files = {u.rpartition('/')[2].replace('%2B', '+'): (u, h) for u, h in links}
    files = {k: v for k, v in files.items() if of_version(k, f'{version}+{kind}')}
    if not files: raise SystemExit(f"torch {version} for {kind}: {PYTORCH}/{kind}/torch/ lists none; slurm/setup.sh --torch names another")
    url = next((u for n, (u, _) in files.items() if 'linux' in n and 'x86_64' in n), '')
    asked = re.findall(r'^Requires-Dist: ((?:nvidia|cuda|triton)\S*?) ?==([^\s;*]+)', get(urllib.request.urljoin(f'{PYTORCH}/{kind}/torch/', url) + '.metadata'), re.MULTILINE)
    more = {f"{re.sub(r'[[].*', '', n)}=={v}" for n, v in asked}
    hashes = {f'torch=={version}': sorted(h for _, h in files.values()), **{o: looked_up(o) for o in more}}
    return written(hashes, hashes, f"torch for {kind}, as PyTorch's own index has it.", f' torch {kind}')

def main(*args):
    if args: return (ROOT/f'constraints-torch-{args[1]}.txt').write_text(torch_list(args[1]))
    pins = {plain(n): f'{n}=={v}' for n, v in re.findall(r'^([\w.-]+)==(\S+)', (ROOT/'constraints.txt').read_text(), re.MULTILINE)}
    wanted, hashes = sets(pins), listed()
    for name in sorted(set().union(*wanted.values())):
        if not hashes.get(pins[name]): hashes[pins[name]] = looked_up(pins[name])
    for kind, names in wanted.items(): (ROOT/f'constraints-{kind}.txt').write_text(written({pins[n] for n in names}, hashes, HEADS[kind]))

if __name__ == '__main__': main(*sys.argv[1:])
