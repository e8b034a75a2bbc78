"Where things are in this checkout."
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, RUNNERS = ROOT/'nbs', ('05_train', '07_evaluate', '09_benchmark')
MADE = {'.git', '.venv', '_docs', '_proc', 'build', 'dist', '__pycache__', '.ipynb_checkpoints', '.pytest_cache', '.hypothesis'}

def not_copied(
    folder, # where
    names,  # what is in it
)->set:
    "What is made from the sources or brought to them: environment, caches, archives, runs."
    runs = {'data', 'results'} if Path(folder) in (ROOT, NBS) else set()
    return {o for o in names if o in MADE | runs or o.endswith('.egg-info')}

def copy_project(
    dest, # a folder that is not there yet
)->Path:  # the same
    "The sources alone, elsewhere: what a test does there never touches the checkout."
    return Path(shutil.copytree(ROOT, dest, ignore=not_copied))

def notebooks(
    root=ROOT, # a checkout, or a copy of one
)->list:
    "The notebooks that are sources; executed copies under guides/results are not."
    found = (Path(root)/'nbs').rglob('*.ipynb')
    return sorted(p for p in found if not {'results', 'data', '.ipynb_checkpoints'} & {*p.relative_to(root).parts})
