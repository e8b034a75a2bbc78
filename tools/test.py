"""Every notebook and every test, without what is marked slow unless --slow is given. The last line counts them: `N passed, N failed`,
with `, N skipped` where there are any."""
import os, subprocess, sys, tempfile, time
from argparse import ArgumentParser
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

from project import ROOT, copy_project, notebooks
from starting import Forked, import_once

# of what notebooks import, all that isn't ours; each takes a share of their time as long as its own cells
import_once('nbdev.test', 'nbdev.showdoc', 'matplotlib.pyplot', 'pandas', 'pydicom', 'cv2', 'imagecodecs', 'fastai.basics', 'fastai.callback.all',
            'albumentations', 'torch._dynamo', 'torchmetrics', 'ipywidgets')

def threads(
    workers, # processes that work side by side
)->dict:     # variables
    "Each does its arithmetic on its share of the processor."
    return dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), str(max(1, (os.cpu_count() or 1)//workers)))

def run_notebook(
    nb,       # the notebook, in a copy of the project
    flags='', # nbdev flags of cells that are left out otherwise
    env={},   # variables for it
)->str:       # 'passed' or 'failed'
    "One notebook through nbdev_test, in a process of its own; its line on the screen, and what it said where it failed."
    cmd = [Path(sys.executable).with_name('nbdev_test'), '--path', nb, '--flags', flags, '--n_workers', '0']
    start = time.time()
    process = Forked(cmd, nb.parent, {**os.environ, **env})
    code, said = process.wait(), process.out.read_text()
    process.out.unlink()
    passed = code == 0 and 'Success.' in said
    print(f"{'passed' if passed else 'FAILED'} {time.time() - start:5.0f} s  {nb.name}" + f'\n{said}'*(not passed), flush=True)
    return 'passed' if passed else 'failed'

def run_notebooks(
    workers=2, # notebooks at a time
    slow=False # their slow cells too?
)->Counter:
    "All notebooks, in a copy of the project, so that what they write stays out of the checkout."
    flags, env = 'slow' if slow else '', threads(workers)
    os.environ.update(env) # libraries read them while they are imported
    with tempfile.TemporaryDirectory() as tmp, ThreadPoolExecutor(workers) as pool:
        return Counter(pool.map(lambda nb: run_notebook(nb, flags, env), notebooks(copy_project(f'{tmp}/project'))))

def run_pytest(
    args,     # passed on to pytest
    workers=2 # files at a time
):            # {file: (counts, seconds)}
    "The tests under tests/, counted for each file."
    env = {**os.environ, **threads(workers)}
    with tempfile.TemporaryDirectory() as tmp:
        xml = Path(tmp)/'tests.xml'
        cmd = [sys.executable, '-m', 'pytest', 'tests', '-rfEs', '--tb=short', '--disable-warnings', '--timeout=900',
               '-n', str(workers), '--dist=loadfile', '--no-loadscope-reorder', f'--junitxml={xml}', *args]
        code = subprocess.run(cmd, cwd=ROOT, env=env).returncode
        if not xml.exists(): return {f'pytest, exit status {code}': (Counter(failed=1), 0)}
        parts = {}
        for case in ElementTree.parse(xml).iter('testcase'):
            counts, seconds = parts.get(name := (case.get('classname') or case.get('name') or '.pytest').split('.')[1], (Counter(), 0))
            counts[outcome(case)] += 1
            parts[name] = counts, seconds + float(case.get('time'))
    if code and not any(c['failed'] for c, _ in parts.values()): parts[f'pytest, exit status {code}'] = Counter(failed=1), 0
    return parts

def outcome(
    case, # a testcase element of JUnit's XML
):
    "passed, failed or skipped."
    kinds = {o.tag for o in case}
    return 'failed' if kinds & {'failure', 'error'} else 'skipped' if 'skipped' in kinds else 'passed'

def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--slow', action='store_true', help='the slow cells and tests too')
    slow = parser.parse_args().slow
    start = time.time()
    print('Notebooks', flush=True)
    parts = {'notebooks': (run_notebooks(slow=slow), time.time() - start)}
    parts.update(run_pytest(['--slow'] if slow else []))
    total = sum((c for c, _ in parts.values()), Counter())
    for name, (counts, seconds) in parts.items():
        print(f"{name:24}{counts['passed']:5} passed {counts['failed']:3} failed {counts['skipped']:3} skipped {seconds:6.0f} s")
    print(f"{'all':24}{time.time() - start:50.0f} s")
    print(f"{total['passed']} passed, {total['failed']} failed" + f", {total['skipped']} skipped"*bool(total['skipped']))
    return bool(total['failed'])

if __name__ == '__main__': sys.exit(main())
