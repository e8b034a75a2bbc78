"Run a notebook of nbs/ through papermill into a run's folder: tools/notebook.py 05_train RUN [CONFIG [OVERRIDE ...]]"
import json, os, sys, tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

os.environ.setdefault('PYDEVD_DISABLE_FILE_VALIDATION', '1') # the debugger in the kernel warns about frozen modules
sys.modules.setdefault('rfc3987_syntax', None) # jsonschema would build a parser of web addresses with it: seconds, and a notebook has none

import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler, papermill_io
from papermill.translators import PythonTranslator
from traitlets.config import Config
from nlbs_cvae.core import InputError, last_name, make_folder, own_files, run_name, write_atomic
from nlbs_cvae.run import job_id
from nlbs_cvae.settings import load_settings, places_of, read_yaml, words

from project import NBS, ROOT

class OwnKernel(AsyncKernelManager):
    "The kernel is this very Python. A cluster's module, or an earlier installation, may have put another one's `python3` in front."
    @property
    def kernel_spec(self):
        return KernelSpec(argv=[sys.executable, '-m', 'ipykernel_launcher', '-f', '{connection_file}'], display_name='Python', language='python')

SOCKET = 103 # bytes that the name of a socket may have: macOS takes 103, Linux 107; a job's TMPDIR can be longer

def sockets_folder(
    *places, # where to try; default: the folder for temporary files, then those with short names
)->tempfile.TemporaryDirectory:
    "A new folder, this user's alone, whose sockets have names that the system takes."
    places = places or (tempfile.gettempdir(), os.environ.get('XDG_RUNTIME_DIR', ''), '/tmp', '/var/tmp', '/dev/shm')
    for place in places:
        if not place or len(os.fsencode(f'{place}/nlbs-12345678/kernel-99')) > SOCKET: continue
        try: return tempfile.TemporaryDirectory(prefix='nlbs-', dir=place)
        except OSError: continue
    raise InputError(f"no folder for the notebook's sockets: their names may have {SOCKET} letters, and {', '.join(filter(None, places))} "
                     "are longer or can't be written to; set TMPDIR to a folder with a short name")

def through(
    folder, # of this call alone
)->Config:
    "Reach the kernel through sockets in a private folder: others on the machine can't listen, and no loopback is needed."
    return Config(KernelManager=dict(transport='ipc', ip=f'{folder}/kernel'))

def keep_attempt(
    notebook,  # an executed notebook that is about to be written again
    places=(), # paths that an earlier version may have left in it
):
    "Move an earlier attempt aside: train.ipynb becomes train.001.ipynb, or the next free number."
    if not notebook.exists(): return
    n = 1
    while (kept := notebook.with_suffix(f'.{n:03}.ipynb')).exists(): n += 1
    text = notebook.read_text(encoding='utf-8', errors='replace')
    if (cleaned := without_places(text, places)) != text: write_atomic(notebook, cleaned)
    notebook.rename(kept)

def known_places(
    folder,   # of the run
    settings, # what was asked for, or None
    typed=(), # settings and their file as somebody wrote them: archive=../an archive
)->set:       # of paths
    "Where things lie, which a notebook that is kept must not say: also where the run itself says that they do."
    typed = [p for o in typed if '/' in (p := o.partition('=')[2].strip('\'" ') or o)]
    file = Path(folder)/'private'/'places.yaml'
    recorded = [v for block in (read_yaml(file) or {}).values() for v in block.values()] if file.is_file() else []
    return {ROOT, sys.prefix, Path.cwd(), Path.home(), Path(folder).absolute(), *typed, *recorded, *(places_of(settings) if settings else ())}

def without_places(
    text,   # of an executed notebook, whole or broken off
    places, # paths
)->str:
    "Cut the places that papermill writes down (its own, the parameters', those of tracebacks) to their last names."
    for place in sorted((str(o) for o in places if len(str(o)) > 7), key=len, reverse=True): # a shorter one could be part of a picture's code
        as_code = PythonTranslator.translate(place)[1:-1] # in the cell of parameters
        for said in {json.dumps(o, ensure_ascii=plain)[1:-1] for o in (place, as_code) for plain in (True, False)}: # as JSON spells it
            text = text.replace(said, json.dumps(last_name(place), ensure_ascii=False)[1:-1])
    return text

class Kept(LocalHandler):
    "What papermill writes after each cell, without places from the first time on: a call that is killed leaves it as it is then."
    def __init__(self, places): # () to paths
        super().__init__()
        self.places = places
    def write(self, buf, path): write_atomic(path, without_places(buf, self.places()))

def private_words(
    folder, # of the run
)->list:    # lines
    "What the errors of a run said in full."
    file = Path(folder)/'private'/'errors.txt'
    return file.read_text().splitlines() if file.exists() else []

@contextmanager
def said_in_full(
    folder, # of the run
):
    "For the block: a terminal, whose words aren't kept, shows in full what a failure says."
    before = len(private_words(folder))
    try: yield
    except PapermillExecutionError:
        if sys.stderr.isatty() or not job_id(): print(*private_words(folder)[before:], sep='\n', file=sys.stderr) # a job's words are kept
        raise

def run_notebook(
    name,         # of RUNNERS
    folder,       # of the run
    settings=None,# of the run, where there is one
    **parameters, # for its parameters cell
)->Path:          # the executed notebook, in the run's folder
    "Execute a runner notebook; what its cells print is shown as it comes."
    done = Path(folder)/f"{name.split('_')[1]}.ipynb"
    make_folder(done.parent)
    typed = [parameters.get('config', ''), *words(parameters.get('overrides', []))]
    places = partial(known_places, folder, settings, typed)
    keep_attempt(done, places())
    papermill_io.register(str(done), Kept(places))
    with sockets_folder() as sockets, said_in_full(folder):
        papermill.execute_notebook(NBS/f'{name}.ipynb', done, parameters, progress_bar=False, stdout_file=sys.stdout,
                                   stderr_file=sys.stderr, config=through(sockets), kernel_manager_class=OwnKernel)
    return done

def main(
    name,                  # the notebook
    run,                   # name of the run
    config='quick_config', # name or path of the settings
    *overrides,            # block.key=value
):
    "The command line: errors are one line."
    try:
        settings = load_settings(config, overrides)
        folder = Path(settings.output.results)/run_name(run)
        which = dict(run=run, config=config) if name == '05_train' else dict(run=str(folder))
        with own_files(settings.output.share): print('Executed notebook:', run_notebook(name, folder, settings, **which, overrides=list(overrides)))
    except InputError as e: sys.exit(str(e))
    except PapermillExecutionError as e: sys.exit(f'{name}: {e.ename}: {e.evalue}')

if __name__ == '__main__': main(*sys.argv[1:])
