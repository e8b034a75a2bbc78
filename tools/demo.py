"The whole way on a digital phantom: archive, prepared images, training, metrics, report. Finished, it is only shown."
import os, sys, time
from contextlib import contextmanager
from pathlib import Path

from nlbs_cvae.core import InputError, own_files
from nlbs_cvae.run import RunFolder
from nlbs_cvae.settings import load_settings
from nlbs_cvae.dataset import get_data

from notebook import PapermillExecutionError, run_notebook
from project import ROOT

@contextmanager
def step(
    title, # what is done
):
    "Say what begins and how long it took."
    print(f'\n== {title}', flush=True)
    start = time.time()
    yield
    print(f'   {time.time() - start:.0f} s', flush=True)

def show(
    folder, # of the finished run
):
    "Name what there is to look at."
    found = dict(pictures=sorted((folder.galleries/'final_samples').glob('*.png')), report=[folder.metrics/'evaluation_report.pdf'],
                 notebooks=[folder.path/'train.ipynb', folder.path/'evaluate.ipynb'], model=[folder.model])
    print('\nThe demo is finished. To make it anew: make clean demo')
    for what, paths in found.items():
        for p in paths: print(f'  {what:10} {p}')

def main():
    settings = load_settings('demo_config')
    folder = RunFolder(Path(settings.output.results)/'demo')
    if folder.read_status().get('state') == 'finished' and (folder.metrics/'evaluation_report.pdf').exists(): return show(folder)
    with step('1/3 A phantom archive of DICOM files, and its prepared images'): get_data(settings)
    with step('2/3 Training: nbs/05_train.ipynb'): run_notebook('05_train', folder.path, settings, run='demo', config='demo_config')
    with step('3/3 Metrics and report: nbs/07_evaluate.ipynb'): run_notebook('07_evaluate', folder.path, settings, run=str(folder.path))
    show(folder)

if __name__ == '__main__':
    os.chdir(ROOT)
    try:
        with own_files(): main()
    except InputError as e: sys.exit(f'demo: {e}')
    except PapermillExecutionError as e: sys.exit(f'demo: {e.ename}: {e.evalue}')
