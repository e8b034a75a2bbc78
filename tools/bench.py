"The benchmark, through papermill into results/benchmark: tools/bench.py quick | full"
import subprocess, sys
from pathlib import Path

from papermill.exceptions import PapermillExecutionError
from nlbs_cvae.bench import need_peers
from nlbs_cvae.core import InputError

from notebook import run_notebook
from project import ROOT

# The published quality table: on the default networks, three trainings of the two best rows
REAL = {'resolution': 64, 'config': 'demo_config', 'finalists': 2, 'seeds': [0, 1, 2], 'overrides': ['training.ema=0.998']}
PLANS = dict(quick=dict(sections=['preparing', 'feeding', 'step', 'metrics', 'generation']), full=dict(minutes=8, quality=REAL, compile=True))

def install_peers():
    "What we compare with, as constraints.txt pins it, where it isn't there."
    try: return need_peers()
    except InputError: pass
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-build-isolation', '--require-hashes', '-r', ROOT/'constraints-bench.txt'], check=True)

def main(size):
    if size not in PLANS: sys.exit(f'{size!r}: there are {", ".join(PLANS)}')
    install_peers()
    out = Path('results/benchmark').absolute()
    try: print('Executed notebook:', run_notebook('09_benchmark', out, out=str(out), size=size, peers=True, **PLANS[size]))
    except PapermillExecutionError as e: sys.exit(f'09_benchmark: {e.ename}: {e.evalue}')

if __name__ == '__main__': main(*sys.argv[1:] or ['quick'])
