"Run a notebook of nbs/ through papermill into a run's folder: tools/notebook.py 05_train RUN [CONFIG [OVERRIDE ...]]"
import os, sys, tempfile
from pathlib import Path

os.environ.setdefault('PYDEVD_DISABLE_FILE_VALIDATION', '1') # the debugger in the kernel warns about frozen modules

import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config
from nlbs_cvae.core import InputError, load_settings

from project import NBS

def through(
    folder, # of this call alone
)->Config:
    "Reach the kernel through sockets in a private folder: others on the machine can't listen, and no loopback is needed."
    return Config(KernelManager=dict(transport='ipc', ip=f'{folder}/kernel'))

def keep_attempt(
    notebook, # an executed notebook that is about to be written again
):
    "Move an earlier attempt aside: train.ipynb becomes train.001.ipynb, or the next free number."
    if not notebook.exists(): return
    n = 1
    while (kept := notebook.with_suffix(f'.{n:03}.ipynb')).exists(): n += 1
    notebook.rename(kept)

def run_notebook(
    name,         # of RUNNERS
    folder,       # of the run
    **parameters, # for its parameters cell
)->Path:          # the executed notebook, in the run's folder
    "Execute a runner notebook; what its cells print is shown as it comes."
    done = Path(folder)/f"{name.split('_')[1]}.ipynb"
    done.parent.mkdir(parents=True, exist_ok=True)
    keep_attempt(done)
    with tempfile.TemporaryDirectory(prefix='nlbs-') as sockets:
        papermill.execute_notebook(NBS/f'{name}.ipynb', done, parameters, progress_bar=False, stdout_file=sys.stdout,
                                   stderr_file=sys.stderr, config=through(sockets))
    return done

def main(
    name,                  # the notebook
    run,                   # name of the run
    config='quick_config', # for training: name or path of the settings
    *overrides,            # for training: block.key=value
):
    "The command line: errors are one line."
    try:
        folder = Path(load_settings(config, overrides).output.results)/run
        training = dict(run=run, config=config, overrides=list(overrides))
        print('Executed notebook:', run_notebook(name, folder, **(training if name == '05_train' else dict(run=str(folder)))))
    except InputError as e: sys.exit(str(e))
    except PapermillExecutionError as e: sys.exit(f'{name}: {e.ename}: {e.evalue}')

if __name__ == '__main__': main(*sys.argv[1:])
