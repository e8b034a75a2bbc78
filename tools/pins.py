"Print constraints-hpc.txt: of constraints.txt, what the library itself needs, as it is installed here."
import re
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

from project import ROOT

HEAD = """\
# What a cluster needs, exactly: constraints.txt without what only the authors of a notebook need.
# Written by:  .venv/bin/python tools/pins.py > constraints-hpc.txt
# slurm/setup.sh installs by it, slurm/wheelhouse.sh collects by it. torch comes for the site's CUDA (SITE_TORCH in its profile)
# and brings NVIDIA's libraries as it pins them itself. setuptools and wheel build the project without a network.
"""

def plain(name): return re.sub('[-_.]+', '-', name).lower()

def needed(
    wanted, # requirements, as metadata has them
)->set:     # of plain names
    "Names of all packages behind requirements, with the extras that these ask for and no others."
    seen, wanted = set(), [(o, '') for o in wanted]
    while wanted:
        text, extra = wanted.pop()
        r = Requirement(text)
        if r.marker and not r.marker.evaluate({'extra': extra}): continue
        for asked in {'', *r.extras} - {e for n, e in seen if n == plain(r.name)}:
            seen.add((plain(r.name), asked))
            try: wanted += [(o, asked) for o in distribution(r.name).requires or []]
            except PackageNotFoundError: pass # torchvision, say, where it was dropped
    return {name for name, _ in seen}

def main():
    pins = {plain(n): f'{n}=={v}' for n, v in re.findall(r'^([\w.-]+)==(\S+)', (ROOT/'constraints.txt').read_text(), re.MULTILINE)}
    names = needed(distribution('nlbs_cvae').requires) | {'setuptools', 'wheel'}
    if missing := names - pins.keys(): raise SystemExit(f"constraints.txt pins no {', '.join(sorted(missing))}")
    print(HEAD + '\n'.join(pins[n] for n in sorted(names)))

if __name__ == '__main__': main()
