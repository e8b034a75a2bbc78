"The guide from the archive's page to the first finished run, followed line by line: two machines, an ssh server, a real SLURM."
import os, re, subprocess, sys
from pathlib import Path

import pytest
from commands import prose
from project import NBS, ROOT, copy_project
from slurm_cluster import ssh, start, stop  # noqa: F401, the first is a fixture

pytestmark = [pytest.mark.needs('slurm'), pytest.mark.slow]

def blocks():
    "Where and what: the shell blocks of the guide, in their order."
    found = re.findall(r'^```sh\n# on (your own machine|the cluster)\n(.*?)^```', prose(NBS/'guides'/'first_run.ipynb'), re.MULTILINE | re.DOTALL)
    assert len(found) == prose(NBS/'guides'/'first_run.ipynb').count('```sh\n'), 'each block says where it is typed'
    return found

@pytest.fixture
def machines(ssh, tmp_path):
    "A place of its own for each machine, its environment there already; the cluster's ends with the test."
    here, there = copy_project(tmp_path/'home'/'nlbs-cvae'), start(tmp_path/'cluster', 17400)
    (here/'.venv').symlink_to(sys.prefix)
    (here/'tools'/'setup.sh').write_text('#!/bin/sh\n') # the environment is there
    for cmd in ('init', '-q'), ('add', '-A', ':!.venv'): subprocess.run(['git', *cmd], cwd=here, check=True) # as a clone has it
    yield {'your own machine': (here.parent, {**os.environ, 'RSYNC_RSH': ssh.shell, 'OMP_NUM_THREADS': '1'}),
           'the cluster': (ssh.far, there.env)}, there
    stop(there)

def rehearse(here, profile):
    "What the guide leaves to its reader: the two files, for a rehearsal of minutes."
    quick = (ROOT/'nlbs_cvae'/'configs'/'quick_config.yaml').read_text()
    (here/'nlbs-cvae'/'mine.yaml').write_text(re.sub('archive: .*', 'archive: data/nlbs', quick))
    far = re.search('SITE_FOLDER=(.+)', profile)[1]
    (here/'nlbs-cvae'/'slurm'/'sites'/'mine.env').write_text(profile.replace(f'SITE_DATA={Path(far).parent}/data', f'SITE_DATA={far}/data'))

def test_every_line_of_the_guide(machines, ssh, tmp_path):
    "Left out: the clone, and the installation there, which test_offline_installation does; here it is a dry run."
    places, cluster = machines
    where = {k: v[0] for k, v in places.items()}
    for machine, text in blocks():
        text = re.sub(r'^git clone \S+ && ', '', text, flags=re.MULTILINE).replace('nlbs-cache-256', 'nlbs-cache-32')
        text = re.sub(r'^(slurm/setup.sh .*)', rf'\1 --dry-run --python {sys.executable}', text, flags=re.MULTILINE)
        if 'nlbs_prepare' in text: rehearse(places['your own machine'][0], (tmp_path/'site.env').read_text())
        if 'slurm/setup.sh' in text: (ssh.far/'nlbs-cvae'/'.venv').symlink_to(sys.prefix)
        if 'slurm/download.sh' in text: cluster.ended(*ids)
        done = subprocess.run(['bash', '-c', f'set -euxo pipefail\n{text}\npwd >{tmp_path}/pwd'], cwd=where[machine], env=places[machine][1],
                              capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        where[machine] = (tmp_path/'pwd').read_text().strip()
        ids = [o for o in done.stdout.splitlines() if o.isdigit()]
    here = Path(where['your own machine'])
    assert (here/'results'/'first'/'metrics'/'evaluation_report.pdf').exists() and (here/'generated_contact_sheet.png').exists()
    assert not [*(ssh.far/'nlbs-cvae'/'data').rglob('private')], 'paths and ids of women stayed'
