"What surrounds a run and must not matter: another Python's kernel, a long TMPDIR, spaces and accents, numbers for names."
import json, os, re, shlex, subprocess, sys
from pathlib import Path

import pytest
from nlbs_cvae.core import InputError
from project import NBS, ROOT, RUNNERS

def text(notebook): return '\n'.join(''.join(c['source']) for c in json.loads((NBS/f'{notebook}.ipynb').read_text())['cells'][:2])

def test_the_notebook_ran_in_this_python(tiny_run):
    "`tiny_run` is made with a foreign python3 on JUPYTER_PATH, which is /bin/false, and a TMPDIR whose sockets would have no name."
    told = json.loads((tiny_run/'train.ipynb').read_text())['metadata']['language_info']['version']
    assert told == '.'.join(map(str, sys.version_info[:3]))

def test_sockets_find_a_short_place(tmp_path):
    from notebook import SOCKET, sockets_folder
    long = tmp_path/('é'*40)/('x'*40)
    long.mkdir(parents=True)
    (tmp_path/'file').write_text('')
    with sockets_folder(str(long), '', '/not/there', str(tmp_path/'file'), '/tmp') as found:
        assert found.startswith('/tmp/nlbs-') and os.stat(found).st_mode & 0o777 == 0o700 and len(f'{found}/kernel-99') < SOCKET
    with pytest.raises(InputError, match='set TMPDIR to a folder with a short name'): sockets_folder(str(long))

@pytest.mark.parametrize('name', RUNNERS)
def test_the_headers_command_finds_its_folders(name):
    "papermill makes none, and a fresh clone has no results."
    commands = re.findall(r'^papermill (\S+) (\S+)', text(name), re.MULTILINE)
    assert commands and all((ROOT/a).exists() and (ROOT/b).parent.is_dir() and 'results' not in b for a, b in commands)

def papermill(notebook, place, *args):
    "The command of a notebook's header with other parameters, somewhere else: what was printed."
    cmd = re.search(rf'^papermill nbs/{notebook}.ipynb out.ipynb', text(notebook), re.MULTILINE)[0].replace('nbs/', f'{NBS}/').split()
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'JUPYTER_PATH': ''}
    done = subprocess.run([Path(sys.executable).with_name(cmd[0]), *cmd[1:], '--log-output', *args], cwd=place, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr

def test_papermills_numbers_are_names(tmp_path):
    "A number for the run, a text for the list of overrides with a folder that has a space in its name; then that run evaluated."
    quick = 'training.num_epochs=1 training.prior_epochs=0 training.tensorboard=false'
    said = papermill('05_train', tmp_path, '-p', 'config', 'quick_config', '-p', 'run', '2024', '-p', 'overrides', f"{quick} data.archive='{tmp_path}/Étude 1'")
    assert 'run: 2024, a number as it came here' in said
    assert json.loads((tmp_path/'results'/'2024'/'status.json').read_text())['state'] == 'finished' and (tmp_path/'Étude 1').is_dir()
    papermill('07_evaluate', tmp_path, '-p', 'run', 'results/2024', '-p', 'public', 'false', '-p', 'overrides', 'evaluation.samples=8')
    assert (tmp_path/'results'/'2024'/'metrics'/'evaluation_report.pdf').exists()

@pytest.mark.parametrize('name', ['Étude des seins', "l'archive", '$(touch x) `touch y`; "z"'])
def test_make_passes_names_as_they_are(tmp_path, name):
    "With a stand-in for Python, which says what it was given and what it finds in NLBS_OVERRIDES."
    (tmp_path/'tools').mkdir()
    (tmp_path/'.venv'/'bin').mkdir(parents=True)
    (tmp_path/'Makefile').write_text((ROOT/'Makefile').read_text())
    for path, body in (('tools/setup.sh', ''), ('.venv/bin/python', 'printf "%s\\n" "$@" "$NLBS_OVERRIDES"')):
        (tmp_path/path).write_text(f'#!/bin/sh\n{body}\n')
        (tmp_path/path).chmod(0o755)
    told = shlex.quote(f'data.archive={name}')
    done = subprocess.run(['make', 'train', 'RUN=' + name.replace('$', '$$'), 'OVERRIDES=' + told.replace('$', '$$')], cwd=tmp_path, capture_output=True, text=True, check=True)
    *_, run, config, overrides = done.stdout.splitlines()
    assert (run, config, shlex.split(overrides)) == (name, 'training_config', [f'data.archive={name}'])
    assert {p.name for p in tmp_path.iterdir()} == {'tools', '.venv', 'Makefile'}

def test_feeding_processes_where_tmpdir_is_long(tmp_path):
    "Without a shorter place for their sockets they would hang without a word."
    (long := tmp_path/('scratch_of_a_job_'*6)).mkdir()
    code = """import torch
from nlbs_cvae.dataset import _room_for_sockets
_room_for_sockets()
print(sum(len(b) for b in torch.utils.data.DataLoader([torch.ones(3)]*6, batch_size=2, num_workers=1)))"""
    done = subprocess.run([sys.executable, '-c', code], env={**os.environ, 'TMPDIR': str(long)}, capture_output=True, text=True, timeout=300)
    assert done.stdout == '6\n' and not [*long.iterdir()], done.stderr
