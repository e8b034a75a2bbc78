"What a job file asks the library: facts.py run|made|cache CONFIG RUN [OVERRIDE ...], or facts.py gpu."
import sys
from pathlib import Path

from nlbs_cvae.core import InputError, make_folder, own_files, run_name
from nlbs_cvae.settings import load_settings

def gpu():
    "The GPUs that torch can use; exit status 1 where there is none."
    import torch
    found = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(', '.join(found) or f'torch {torch.__version__} finds no GPU')
    return not found

def main(
    what,           # 'run', 'made' (the run's folder is made, for whom the settings say), 'cache' or 'gpu'
    config='',      # name or path of the settings
    run='',         # name of the run
    *overrides,     # block.key=value
):
    "Print one line."
    if what == 'gpu': return gpu()
    if '=' in run: raise InputError(f"'{run}' is no name of a run; that comes after {config}, before any block.key=value")
    settings = load_settings(config, overrides)
    folder = Path(settings.output.results)/run_name(run)
    if what == 'made':
        with own_files(settings.output.share): make_folder(folder/'logs')
    if what in ('run', 'made'): return print(folder)
    from nlbs_cvae.cache import cache_of
    print(cache_of(settings.data))

if __name__ == '__main__':
    try: sys.exit(main(*sys.argv[1:]))
    except InputError as e: sys.exit(str(e))
