"`make hooks`: git cleans a notebook on its way in; two versions are merged without a loss, or the conflict is said."
import json, resource, subprocess

import pytest
from nbdev.clean import clean_nb
from project import ROOT, copy_project

@pytest.fixture
def repo(tmp_path): return repository(tmp_path/'repo')

def repository(path):
    "A copy of the project as a git repository of its own, hooks installed."
    path = copy_project(path)
    (path/'.venv').symlink_to(ROOT/'.venv')
    (path/'tools'/'setup.sh').write_text('#!/bin/sh\n') # nothing to install here
    git(path, 'init', '--quiet', '--initial-branch=main')
    for key, value in dict(name='A', email='a@example.org').items(): git(path, 'config', f'user.{key}', value)
    subprocess.run(['make', '--silent', 'hooks'], cwd=path, check=True)
    return path

def git(repo, *args): return subprocess.run(['git', *args], cwd=repo, check=True, capture_output=True, text=True).stdout

def bounded():
    "What git starts may take 20 seconds of computing and 2 GiB; the filter that runs over doesn't run on."
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))

def write(repo, *sources, **metadata):
    "A notebook with one code cell for each source, as a Jupyter session leaves it."
    cells = [dict(cell_type='code', id=f'cell{i}', metadata=metadata, source=s.splitlines(True), outputs=[], execution_count=7)
             for i, s in enumerate(sources)]
    (repo/'nbs'/'x.ipynb').write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5), indent=1))

def commit(repo, message):
    git(repo, 'add', 'nbs/x.ipynb')
    git(repo, 'commit', '--quiet', '-m', message)

def test_a_notebook_is_committed_clean(repo):
    write(repo, 'a = 1', scrolled=True, tags=['parameters'])
    git(repo, 'add', 'nbs/x.ipynb')
    cell, = json.loads(git(repo, 'show', ':nbs/x.ipynb'))['cells']
    assert (cell['execution_count'], cell['metadata'], cell['source']) == (None, {'tags': ['parameters']}, ['a = 1'])

def two_branches(repo, start, ours, theirs):
    "A notebook, changed on two branches; what `git merge` says."
    write(repo, *start)
    commit(repo, 'start')
    git(repo, 'switch', '--quiet', '-c', 'other')
    write(repo, *theirs)
    commit(repo, 'theirs')
    git(repo, 'switch', '--quiet', 'main')
    write(repo, *ours)
    commit(repo, 'ours')
    return subprocess.run(['git', 'merge', '--no-edit', 'other'], cwd=repo, capture_output=True, text=True)

def test_changes_of_different_cells_are_merged(repo):
    assert two_branches(repo, ['a = 1', 'b = 1', 'c = 1'], ['a = 2', 'b = 1', 'c = 1'], ['a = 1', 'b = 1', 'c = 3']).returncode == 0
    assert [''.join(c['source']) for c in json.loads((repo/'nbs'/'x.ipynb').read_text())['cells']] == ['a = 2', 'b = 1', 'c = 3']

def test_two_changes_of_one_cell_are_a_conflict_that_loses_neither(repo):
    assert two_branches(repo, ['a = 1', 'same = 0'], ['a = 3', 'same = 0'], ['a = 2', 'same = 0']).returncode
    text = (repo/'nbs'/'x.ipynb').read_text()
    assert 'a = 2' in text and 'a = 3' in text and '<<<<<<<' in text

def test_a_branch_runs_nothing(repo):
    "No file of the tree is git's configuration, nor a program that git runs; one that overwrites .venv is not run either."
    keys = git(repo, 'config', '--local', '--list')
    assert 'include.path' not in keys and f'{repo}/tools' not in keys and (repo/'.git'/'nlbs-clean.py').exists()
    trap = f'touch {repo}/trapped'
    (repo/'.gitconfig').write_text(f'[filter "nbdev-clean"]\n\tclean = {trap}\n')
    (repo/'tools'/'clean.py').write_text(f'import os; os.system("{trap}")\n')
    (repo/'json.py').write_text(f'import os; os.system("{trap}")\n')
    write(repo, 'a = 1', scrolled=True)
    commit(repo, 'clean')
    assert not (repo/'trapped').exists()
    (repo/'python').write_text(f'#!/bin/sh\n{trap}\ncat\n')
    blob = git(repo, 'hash-object', '-w', 'python').strip()
    git(repo, 'switch', '--quiet', '-c', 'evil')
    git(repo, 'update-index', '--add', '--cacheinfo', f'100755,{blob},.venv/bin/python')
    git(repo, 'commit', '--quiet', '-m', 'evil') # the index alone: the working tree has its own .venv still
    git(repo, 'switch', '--quiet', '--force', 'main')
    git(repo, 'switch', '--quiet', '--force', 'evil')
    assert 'touch' in (repo/'.venv'/'bin'/'python').read_text(), 'git writes over what is ignored'
    write(repo, 'a = 2')
    commit(repo, 'cleaned by what lies outside the tree')
    assert not (repo/'trapped').exists()

def test_the_filter_does_what_nbdev_does(repo):
    "On every notebook that is kept as it was executed, and on one of each thing that is cleaned."
    write(repo, 'a = 1', '', scrolled=True, tags=['parameters'], hide_input=True)
    path = repo/'nbs'/'x.ipynb'
    nb = json.loads(path.read_text())
    nb['metadata'] = dict(kernelspec=dict(name='python3', display_name='.venv'), language_info={}, widgets={})
    nb['cells'][1]['source'] = ['']
    here = {'text/plain': ['<é at 0x7f3a>\n', 'x'], 'text/html': '<b at 0x1F>', 'image/png': 'AAAA\n', 'image/svg+xml': '<svg/>\n'}
    nb['cells'][0]['outputs'] = [dict(output_type='execute_result', execution_count=3, data=here, metadata={}),
                                 dict(output_type='stream', name='stdout', text=['<f at 0x0>\n'])]
    path.write_text(json.dumps(nb, indent=1))
    filter_ = git(repo, 'config', '--local', 'filter.nbdev-clean.clean').strip()
    assert '.venv' not in filter_
    for path in sorted((repo/'nbs').rglob('*.ipynb')):
        cleaned = subprocess.run(filter_, shell=True, cwd=repo, stdin=path.open(), check=True, capture_output=True).stdout
        reference = json.loads(path.read_text())
        clean_nb(reference, allowed_cell_metadata_keys=['tags'])
        assert json.loads(cleaned) == reference, path.name
    assert '0x' not in cleaned.decode() and 'é' in cleaned.decode()

def test_what_a_branch_says_is_not_read(repo):
    "Settings of the tree that never end, or grow without end, are no concern of what git runs."
    big = ''.join(f"a{i} = {f'%(a{i + 1})s'*20}\n" for i in range(7))
    for k, text in enumerate((None, f"[DEFAULT]\nallowed_cell_metadata_keys = {'%(a0)s'*20}\n{big}a7 = x\n")):
        (repo/'settings.ini').unlink()
        if text: (repo/'settings.ini').write_text(text)
        else: (repo/'settings.ini').symlink_to('/dev/zero')
        write(repo, f'a = {k}', scrolled=True, tags=['parameters'])
        subprocess.run(['git', 'add', 'nbs/x.ipynb'], cwd=repo, check=True, capture_output=True, preexec_fn=bounded)
        assert json.loads(git(repo, 'show', ':nbs/x.ipynb'))['cells'][0]['metadata'] == {'tags': ['parameters']}

def test_the_time_grows_as_a_notebook_does(repo):
    write(repo, 'a = 1')
    nb = json.loads((repo/'nbs'/'x.ipynb').read_text())
    nb['cells'][0]['outputs'] = [dict(output_type='stream', name='stdout', text=['<'*10**6 + ' at 0x'*10**5])]
    (repo/'nbs'/'x.ipynb').write_text(json.dumps(nb))
    subprocess.run(['git', 'add', 'nbs/x.ipynb'], cwd=repo, check=True, preexec_fn=bounded)
    assert json.loads(git(repo, 'show', ':nbs/x.ipynb'))['cells'][0]['execution_count'] is None

def test_a_checkout_whose_name_git_could_fill_in(tmp_path):
    "%f in a filter stands for the name of a file, which whoever made the branch has chosen."
    repo = repository(tmp_path/"it's 100%fine")
    for name in ('x;touch trapped;.ipynb', "x';touch trapped;'.ipynb", 'x$(touch trapped).ipynb'):
        write(repo, 'a = 1', scrolled=True)
        (repo/'nbs'/'x.ipynb').rename(repo/'nbs'/name)
        git(repo, 'add', f'nbs/{name}')
        assert not json.loads(git(repo, 'show', f':nbs/{name}'))['cells'][0]['metadata']
    assert not [*repo.rglob('trapped')]

def test_a_python_in_the_tree_is_not_taken(repo):
    "A .venv that conda made is a Python of its own, which a branch can write over."
    (repo/'.venv').unlink()
    inside = repo/'.venv'/'bin'/'python'
    inside.parent.mkdir(parents=True)
    inside.write_text(f'#!/bin/sh\necho {inside}\n')
    inside.chmod(0o755)
    done = subprocess.run(['tools/hooks.sh'], cwd=repo, capture_output=True, text=True)
    filter_ = git(repo, 'config', '--local', 'filter.nbdev-clean.clean')
    assert str(inside) not in filter_ if done.returncode == 0 else 'no Python outside of' in done.stderr

def test_the_former_include_goes(repo):
    git(repo, 'config', '--local', 'include.path', '../.gitconfig')
    subprocess.run(['make', '--silent', 'hooks'], cwd=repo, check=True)
    assert 'include.path' not in git(repo, 'config', '--local', '--list')
