"The scripts around the queue: profiles, set-up, wheelhouse, check, transfer and download over a real ssh server."
import json, os, re, shlex, shutil, subprocess, sys, zipfile
from pathlib import Path

import pytest
from project import ROOT, copy_project
from slurm_cluster import APPTAINER, make_place, programs, run, ssh  # noqa: F401, the last is a fixture

SLURM = ROOT/'slurm'
SCRIPTS = [p for p in sorted(SLURM.glob('*.sh')) if p.name != 'lib.sh']

def lib(code, **kwargs): return run('bash', '-c', f'set -euo pipefail; source {SLURM}/lib.sh; {code}', check=False, **kwargs)

def lib_at(place, code, **kwargs): return run('bash', '-c', f'set -euo pipefail; source {place}/slurm/lib.sh; {code}', check=False, **kwargs)

# ---- what stands in the files

@pytest.mark.parametrize('script', SCRIPTS, ids=lambda p: p.name)
def test_help(script):
    res = run(script, '--help')
    assert res.stdout.strip() and not res.stderr and '#!' not in res.stdout

@pytest.mark.parametrize('script', [p for p in SCRIPTS if p.name not in ('rank.sh', 'job_file.sh')], ids=lambda p: p.name)
def test_an_unknown_option_is_named(script):
    res = run(script, '--colour', 'red', check=False)
    assert res.returncode == 2 and res.stderr == f"{script.name}: unknown option '--colour'; {script.name} --help lists them\n"

def test_asukas_job_file_is_its_profiles():
    assert (SLURM/'train_asuka.slurm').read_text() == run(SLURM/'job_file.sh', 'asuka').stdout, 'run: slurm/job_file.sh asuka > slurm/train_asuka.slurm'
    for option in ('cpus-per-task=4', 'mem=16G', 'time=12:00:00', 'gres=gpu:1', 'partition=gpu'):
        assert f'#SBATCH --{option}\n' in (SLURM/'train_asuka.slurm').read_text()

def test_a_profile_reaches_its_job_file(tmp_path):
    (tmp_path/'here.env').write_text('SITE_ACCOUNT=lab\nSITE_QOS=long\nSITE_MAIL=me@example.org\n')
    text = run(SLURM/'job_file.sh', tmp_path/'here.env').stdout
    for option in ('account=lab', 'qos=long', 'mail-user=me@example.org', 'mail-type=END,FAIL,REQUEUE', 'cpus-per-task=8'): assert f'#SBATCH --{option}\n' in text

def test_profiles_say_the_same_things():
    def keys(name): return re.findall(r'^#?(SITE_\w+)=', (SLURM/'sites'/f'{name}.env').read_text(), re.MULTILINE)
    assert keys('template') == keys('generic') and {*keys('asuka')} < {*keys('generic')}

def test_site_facts_are_in_profiles_alone():
    found = [p.name for p in [*SLURM.glob('*.sh'), *SLURM.glob('*.slurm'), *SLURM.glob('*.py')]
             if 'imsp' in p.read_text() or 'asuka' in p.read_text().replace('--site asuka', '').replace('train_asuka', '').replace('job_file.sh asuka', '') and p.name != 'train_asuka.slurm']
    assert not found

KINDS = ('hpc', 'dev', 'bench', 'torch')

def test_what_is_installed_is_what_is_pinned(tmp_path, monkeypatch):
    "The lists are those of constraints.txt, all that is needed, and each package has hashes. No network: what is listed isn't asked for again."
    import pins
    shutil.copytree(ROOT, tmp_path/'p', ignore=lambda d, names: [o for o in names if not o.startswith('constraints')])
    monkeypatch.setattr(pins, 'ROOT', tmp_path/'p')
    monkeypatch.setattr(pins, 'get', lambda *a: pytest.fail(f'asks for {a}'))
    pins.main()
    for kind in KINDS: assert (tmp_path/'p'/f'constraints-{kind}.txt').read_text() == (ROOT/f'constraints-{kind}.txt').read_text(), 'run: .venv/bin/python tools/pins.py'
    all_pins = {*re.findall(r'^([\w.-]+==\S+)', (ROOT/'constraints.txt').read_text(), re.MULTILINE)}
    assert {*pins.listed()} == all_pins and all(pins.listed().values())
    assert pins.listed()['numpy==' + next(o for o in all_pins if o.startswith('numpy==')).split('==')[1]][1:], 'a wheel for each system, and a source'
    two = {'a==1': ['0'*64, '1'*64, '2'*64], 'b==2': ['3'*64]}
    (tmp_path/'p'/'constraints-dev.txt').write_text(pins.written(two, two, 'two'))
    assert {o: pins.listed()[o] for o in two} == two, 'what is written is read back whole'

def test_torch_for_another_cuda(monkeypatch):
    "From an index as PyTorch's is: builds of this version for this CUDA alone, and NVIDIA's libraries as the build asks for them."
    import pins
    h = ['%064x' % i for i in range(9)]
    version = re.search(r'^torch==(\S+)', (ROOT/'constraints.txt').read_text(), re.MULTILINE)[1]
    page = ''.join(f'<a href="/whl/cu126/{n.replace("+", "%2B")}#sha256={d}">x</a>' for n, d in (
        (f'torch-{version}+cu126-cp311-cp311-manylinux_2_28_x86_64.whl', h[1]), (f'torch-{version}+cu126-cp313-cp313-manylinux_2_28_x86_64.whl', h[2]),
        ('torch-1.0+cu126-cp311-cp311-manylinux_2_28_x86_64.whl', h[3]), (f'torch-{version}+cu128-cp311-cp311-linux_x86_64.whl', h[4])))
    nvidia = {'files': [{'filename': f, 'hashes': {'sha256': d}} for f, d in (('nvidia_x_cu12-12.6-py3-none-linux.whl', h[5]), ('nvidia_x_cu12-12.7-py3-none-linux.whl', h[6]))]}
    answers = {f'{pins.PYTORCH}/cu126/torch/': page, f'{pins.PYPI}/nvidia-x-cu12/': json.dumps(nvidia).replace('none-linux', 'none-manylinux_2_17_x86_64'),
               f'https://download.pytorch.org/whl/cu126/torch-{version}%2Bcu126-cp311-cp311-manylinux_2_28_x86_64.whl.metadata': 'Requires-Dist: filelock\nRequires-Dist: nvidia-x-cu12==12.6; platform_system == "Linux"\n'}
    monkeypatch.setattr(pins, 'get', lambda url, *a: answers[url])
    made = pins.torch_list('cu126')
    assert re.findall(r'^(\w\S+)', made, re.MULTILINE) == ['nvidia-x-cu12==12.6', f'torch=={version}'] and re.findall('sha256:(.*?)(?: |$)', made, re.MULTILINE) == [h[5], h[1], h[2]]
    monkeypatch.setattr(pins, 'get', lambda *a: '')
    with pytest.raises(SystemExit, match='lists none'): pins.torch_list('cu126')

def test_another_file_of_the_same_name_is_refused(tmp_path):
    "As set-up installs: a package that was exchanged for another of its name and version."
    with zipfile.ZipFile(tmp_path/'comm-0.2.3-py3-none-any.whl', 'w') as z:
        for name, text in (('comm/__init__.py', ''), ('comm-0.2.3.dist-info/METADATA', 'Metadata-Version: 2.1\nName: comm\nVersion: 0.2.3\n'),
                           ('comm-0.2.3.dist-info/WHEEL', 'Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n'), ('comm-0.2.3.dist-info/RECORD', '')): z.writestr(name, text)
    entry = re.search(r'^comm==(?:.*\\\n)+.*', (ROOT/'constraints-hpc.txt').read_text(), re.MULTILINE)[0]
    (tmp_path/'list.txt').write_text(entry + '\n')
    def install(*hashes): return run(sys.executable, '-m', 'pip', 'install', '--no-deps', *hashes, '--no-index', '--find-links', tmp_path, '--target', tmp_path/'there', '-r', tmp_path/'list.txt', check=False)
    refused = install('--require-hashes')
    assert refused.returncode and 'DO NOT MATCH THE HASHES' in refused.stderr and not (tmp_path/'there').exists()
    for script in (ROOT/'tools'/'setup.sh', SLURM/'setup.sh', SLURM/'wheelhouse.sh'): assert '--require-hashes' in script.read_text()

def test_json_fields_are_read(tmp_path):
    (tmp_path/'s.json').write_text('{\n "state": "running",\n "epoch": 12,\n "loss": -1.5e-3,\n "job": "7_2",\n "error": "",\n "last": "a, b"\n}\n')
    assert lib(f'for k in state epoch loss job error last none; do echo "[$(field {tmp_path}/s.json $k)]"; done; field {tmp_path}/none x').stdout.split('\n') == \
        ['[running]', '[12]', '[-1.5e-3]', '[7_2]', '[]', '[a, b]', '[]', '']

def test_printed_lines_can_be_pasted():
    assert lib("""shown a 'b c' "d'e" 'data.x=[1, 2]'""").stdout == "a 'b c' 'd'\\''e' 'data.x=[1, 2]'\n"

def test_a_node_stages_once(tmp_path):
    "The second process of a node waits for what the first has copied; when the first ends, nothing is left."
    said = lib("""stage_cache() { sleep 1; echo staged; export NLBS_STAGED_CACHE=/near; }
one() (scratch=$PWD/$1 SLURM_LOCALID=$1; mkdir "$1"; stage_for_node; echo "$1 reads $NLBS_STAGED_CACHE"; sleep 2)
one 1 & one 0; wait""", SLURM_NODEID='0', NLBS_JOB_NAME='job', cwd=tmp_path)
    assert said.stdout.splitlines()[0] == 'staged' and {*said.stdout.splitlines()[1:]} == {'0 reads /near', '1 reads /near'}, said
    assert [p.name for p in tmp_path.iterdir()] == ['1']

@pytest.mark.parametrize('cp, staged', [(f'exec {shutil.which("cp")} "$@"', True), ('echo no space left on device >&2; exit 1', False)])
def test_a_full_scratch_disk_keeps_no_job_from_its_work(tmp_path, cp, staged):
    for name in ('images.npy', 'table.csv', 'cache.json'): (tmp_path/name).write_text(name)
    (tmp_path/'s').mkdir()
    said = lib('fact() { pwd; }; scratch=$PWD/s; stage_cache x y; echo "[${NLBS_STAGED_CACHE:-}]"', NLBS_STAGE='always', cwd=tmp_path, PATH=programs(tmp_path/'bin', cp=cp))
    assert said.stdout.endswith(f'[{tmp_path}/s/cache]\n' if staged else 'prepared images stay where they are\n[]\n'), said
    assert (tmp_path/'s'/'cache'/'images.npy').exists() == (tmp_path/'s'/'cache').exists() == staged

# ---- set-up

@pytest.fixture
def place(tmp_path):
    "A checkout of links without an environment."
    make_place(tmp_path)
    (tmp_path/'.venv').unlink()
    for name in ('settings.ini', 'setup.py'): (tmp_path/name).symlink_to(ROOT/name)
    return tmp_path

def test_setup_in_words(place):
    "A dry run names the way and every command, asks nothing, changes nothing."
    before = {*place.iterdir()}
    said = run('slurm/setup.sh', '--torch', 'cpu', '--python', sys.executable, '--dry-run', cwd=place).stdout
    assert 'whl/cpu -r ' in said and '--require-hashes' in said and 'constraints-torch-cpu.txt' in said and {*place.iterdir()} == before

@pytest.mark.parametrize('args, said', [
    (('--how', 'magic'), '--how magic: give auto, module, conda, user or container'),
    (('--offline', 'nowhere'), '--offline nowhere: no such folder; slurm/wheelhouse.sh makes it'),
    (('--python', '/bin/true'), None),
    (('--python', '/bin/false'), '--python /bin/false: does not run'),
    (('--site', 'mars'), "no site 'mars': the sites are asuka generic template"),
])
def test_setup_refuses_in_words(place, args, said):
    res = run('slurm/setup.sh', '--dry-run', *args, cwd=place, check=False)
    if said: assert res.returncode == 2 and said in res.stderr and len(res.stderr.splitlines()) == 1

def test_setup_falls_back(place):
    "No module's Python: conda; without one, a container; nothing at all: what to do."
    old = dict(python3='exit 1', **{f'python3.{n}': 'exit 1' for n in range(11, 20)}, uv='exit 1', getconf='echo glibc 2.36')
    home = dict(HOME=str(place), PATH=programs(place/'bin1', **old, conda='exit 0'))
    assert f"conda: {place}/bin1/conda -> " in run('slurm/setup.sh', '--dry-run', cwd=place, **home).stdout
    for name in ('conda', 'mamba', 'micromamba'): (place/'bin1'/name).unlink(missing_ok=True)
    said = run('slurm/setup.sh', '--dry-run', cwd=place, HOME=str(place), PATH=programs(place/'bin1', apptainer='exit 0')).stdout
    assert 'bin1/apptainer build' in said and 'container.def' in said
    (place/'bin1'/'apptainer').unlink()
    res = run('slurm/setup.sh', '--dry-run', cwd=place, check=False, HOME=str(place), PATH=programs(place/'bin1'))
    assert res.returncode == 2 and 'no way to a Python 3.11 (auto)' in res.stderr

@pytest.mark.parametrize('conda', ['exit 1', 'exit 0', 'mkdir -p "$8/bin"; ln -s /bin/true "$8/bin/pip"; ln -s /bin/false "$8/bin/python"'])
def test_setup_leaves_what_does_not_work(place, conda):
    "A conda that fails, that says it is well and makes nothing, whose Python doesn't run: the next way has its turn; asked for by name, it is an error."
    old = dict(python3='exit 1', **{f'python3.{n}': 'exit 1' for n in range(11, 20)}, uv='exit 1', getconf='echo glibc 2.36')
    (place/'constraints-torch-cu126.txt').write_text('')
    env = dict(HOME=str(place), CALLS=str(place/'calls'), PATH=programs(place/'bin', **old, conda=conda, mamba='exit 1', apptainer=APPTAINER))
    (place/'bin'/'mamba').unlink()
    (place/'s.env').write_text(f'SITE_CONTAINER={place}/my.sif\n')
    said = run('slurm/setup.sh', '--site', place/'s.env', cwd=place, **env).stdout
    assert 'made no environment that works; trying the next way' in said and (place/'my.sif').exists()
    res = run('slurm/setup.sh', '--site', place/'s.env', '--how', 'conda', '--force', cwd=place, check=False, **env)
    assert res.returncode == 2 and 'made no environment in' in res.stderr

@pytest.mark.parametrize('args', [(), ('--how', 'container'), ('--how', 'module'), ('--python', sys.executable)])
def test_an_old_glibc_is_said_once(place, args):
    "Where apptainer is, and the choice is free, a container is the way out."
    res = run('slurm/setup.sh', '--dry-run', *args, cwd=place, check=False, PATH=programs(place/'bin1', getconf='echo glibc 2.17'))
    assert res.returncode == 2 and 'glibc 2.17 here is older than the 2.28' in res.stderr and '--how container' in res.stderr
    res = run('slurm/setup.sh', '--dry-run', *args, cwd=place, check=False, PATH=programs(place/'bin1', apptainer='exit 0'))
    assert 'bin1/apptainer build' in res.stdout if not args or 'container' in args else res.returncode == 2

def test_a_modules_python_runs_with_its_module(place):
    "One that finds its libraries only where the module is loaded."
    (place/'init').mkdir()
    (place/'init'/'bash').write_text('module() { export LIBRARIES=here LOADEDMODULES=$2; }\n')
    (place/'site.env').write_text('SITE_MODULES=python/3.11\n')
    path = programs(place/'bin1', **{'python3.11': f'[[ -n ${{LIBRARIES:-}} ]] && exec {sys.executable} "$@"'})
    (place/'wheels').mkdir()
    (place/'wheels'/'x-1-cp3{0}-cp3{0}-any.whl'.format(sys.version_info[1])).touch()
    res = run('slurm/setup.sh', '--site', place/'site.env', '--how', 'module', '--offline', place/'wheels', cwd=place, check=False, MODULESHOME=str(place), PATH=path)
    assert f'module: {place}/bin1/python3.11 -> ' in res.stdout and (place/'.venv'/'bin'/'pip').exists(), res.stdout + res.stderr
    assert 'No matching distribution found for setuptools' in res.stderr, 'the folder is all that there is'

def test_what_would_be_lost_or_is_damaged_is_refused(place):
    mine, wheels = place/'mine', place/'wheels'
    for folder in (mine, wheels): folder.mkdir()
    (mine/'thesis.tex').write_text('years of work')
    (wheels/'x-1-cp27-cp27-any.whl').write_text('as it came')
    def refused(*args): return run('slurm/setup.sh', '--python', sys.executable, *args, cwd=place, check=False).stderr
    assert 'holds other things, and would be cleared' in refused('--venv', mine, '--force') and (mine/'thesis.tex').exists()
    assert f'nothing for {sys.executable} in it (cp3' in refused('--offline', wheels)
    (wheels/'SHA256SUMS').write_text('0'*64 + '  x-1-cp27-cp27-any.whl\n')
    assert 'not what slurm/wheelhouse.sh collected' in refused('--offline', wheels)

def test_the_container_is_built_and_used(place):
    "With a stand-in that builds nothing and runs its commands here: which image, for which CUDA, what it sees of the node."
    (place/'site.env').write_text(f'SITE_CONTAINER={place}/my.sif\nSITE_SCRATCH={place}\nSITE_TORCH=cu118\n')
    (place/'constraints-torch-cu118.txt').write_text('torch==0 --hash=sha256:0\n') # as its first set-up has written it
    env = dict(PATH=programs(place/'bin', apptainer=APPTAINER), CALLS=str(place/'calls'))
    for force in (), (), ('--force',): run('slurm/setup.sh', '--site', place/'site.env', '--how', 'container', *force, cwd=place, **env)
    assert (place/'calls').read_text().splitlines() == [f'build {o}{place}/my.sif {place}/.venv/container.def' for o in ('', '--force ')]
    recipe = (place/'my.sif').read_text()
    assert '--index-url https://download.pytorch.org/whl/cu118 -r' in recipe and 'constraints-torch-cu118.txt' in recipe and 'cu126.txt' not in recipe
    assert re.search(r'^From: python@sha256:[0-9a-f]{64}$', recipe, re.MULTILINE) and recipe.count('--require-hashes') == 3
    said = lib_at(place, 'load_site; find_python; fact run quick_config first', cwd=place, **env)
    assert said.stdout == f'{place}/results/first\n', said.stderr
    assert f'exec --nv --bind {place},{place} --env PYTHONPATH={place} {place}/my.sif python' in (place/'calls').read_text()

def test_a_missing_module_is_named(tmp_path):
    (tmp_path/'init').mkdir()
    (tmp_path/'init'/'bash').write_text('module() { if [[ $2 == good/* ]]; then export LOADEDMODULES=${LOADEDMODULES:-}:$2; fi; }\n')
    (tmp_path/'site.env').write_text('SITE_MODULES="good/1 bad/2"\n')
    res = lib(f'load_site {tmp_path}/site.env; load_modules', MODULESHOME=str(tmp_path))
    assert "no module 'bad/2'" in res.stderr and 'good' not in res.stderr, res.stderr
    (tmp_path/'site.env').write_text('SITE_MODULES="good/1"\n')
    assert lib(f'load_site {tmp_path}/site.env; load_modules; echo fine', MODULESHOME=str(tmp_path)).stdout == 'fine\n'

def test_what_the_container_takes_along_makes_a_package(tmp_path):
    "The files of its recipe, and its own last installation; nothing of data, runs or environment."
    recipe = (SLURM/'container.def').read_text()
    for line in re.search('%files\n(.*?)\n\n', recipe, re.DOTALL)[1].splitlines():
        source, goal = line.split()
        (tmp_path/(goal + 'x')[1:]).parent.mkdir(parents=True, exist_ok=True)
        for p in ROOT.glob(source): (shutil.copytree if p.is_dir() else shutil.copy)(p, tmp_path/goal[1:])
    done, = re.findall(r'pip install --no-cache-dir (--no-deps --no-build-isolation) (/opt/nlbs-cvae)', recipe)
    run(sys.executable, '-m', 'pip', 'wheel', '-q', *done[0].split(), '-w', tmp_path, tmp_path/done[1][1:])
    made = zipfile.ZipFile(next(tmp_path.glob('*.whl'))).namelist()
    assert {'nlbs_cvae/core.py', 'nlbs_cvae/configs/hpc_training_config.yaml', 'nlbs_cvae/runners/05_train.ipynb'} < {*made}

@pytest.fixture(scope='module')
def wheelhouse(tmp_path_factory):
    "Everything for this Python, without CUDA; from the network."
    folder = tmp_path_factory.mktemp('wheels')
    probe = subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '--dest', folder/'probe', 'wheel'], capture_output=True)
    if probe.returncode: pytest.skip('no package index here')
    made = run(SLURM/'wheelhouse.sh', '--torch', 'cpu', '--dest', folder/'wheelhouse', '--python', '%d.%d' % sys.version_info[:2])
    assert 'wheels' in made.stdout
    return folder/'wheelhouse'

@pytest.mark.slow # a gigabyte is fetched, and installed twice
def test_offline_installation(wheelhouse, tmp_path):
    "In a network namespace without a route; then a run of seconds in that environment. The same by a stand-in for conda, which makes a Python."
    if os.geteuid() or not shutil.which('unshare'): pytest.skip('a network namespace needs root and unshare')
    project = copy_project(tmp_path/'project')
    alone = ('unshare', '--net')
    assert run(*alone, 'ping', '-c1', '-W1', '127.0.0.1', check=False).returncode, 'not even loopback is up'
    done = run(*alone, 'slurm/setup.sh', '--offline', wheelhouse, '--torch', 'cpu', '--python', sys.executable, cwd=project, PYTHONPATH='')
    assert 'is ready' in done.stdout
    again = run(*alone, 'slurm/setup.sh', '--torch', 'cpu', cwd=project, PYTHONPATH='')
    assert 'as it should be' in again.stdout
    trained = run(*alone, project/'.venv'/'bin'/'nlbs_train', 'quick_config', 'offline', cwd=tmp_path, PYTHONPATH='')
    assert 'finished' in trained.stdout
    checked = run(*alone, 'slurm/check.sh', 'quick_config', 'x', cwd=project, check=False, PYTHONPATH='')
    assert re.search(r'^ok    python ', checked.stdout, re.MULTILINE) and 'this torch is without CUDA' in checked.stdout

    asked = 'create --yes --quiet --override-channels --channel conda-forge --prefix'
    path = programs(tmp_path/'bin', conda=f'[[ $* == "{asked} "*" python=3.11 pip" ]] && exec {sys.executable} -m venv "$8"')
    done = run(*alone, 'slurm/setup.sh', '--how', 'conda', '--force', '--torch', 'cpu', cwd=project, PYTHONPATH='', PATH=path, PIP_NO_INDEX='1',
               PIP_FIND_LINKS=str(wheelhouse), PIP_NO_COMPILE='1')
    assert 'conda: ' in done.stdout and 'is ready' in done.stdout
    assert run(*alone, project/'.venv'/'bin'/'nlbs_train', '--help', cwd=tmp_path, PYTHONPATH='').stdout

# ---- submit

@pytest.mark.parametrize('memory, all_of_it', [('32G', '128G'), ('16000', '64000'), ('32g', '128G'), ('"32 GB"', '128G'), ('1.5T', '6291456M'), ('0', '0'), ('08G', '32G'), ('32G\r', '128G')])
def test_several_gpus_ask_for_their_share(place, memory, all_of_it):
    "As many processes on a node as GPUs, and the memory of all of them. A dry run makes no folder."
    (place/'.venv').symlink_to(sys.prefix)
    (place/'site.env').write_text(f'SITE_MEM={memory}\n')
    res = run('slurm/submit.sh', '--site', place/'site.env', '--dry-run', '--nodes', 2, '--gpus', 4, 'train_multi', 'quick_config', 'x', cwd=place,
              PATH=programs(place/'bin', sbatch='exit 0'))
    for option in ('--nodes=2', '--ntasks-per-node=4', '--gres=gpu:4', '--cpus-per-task=8', f'--mem={all_of_it}'): assert f' {option} ' in res.stdout
    assert not (place/'results').exists()

@pytest.mark.parametrize('line, said', [
    ('SITE_MEM=viel', 'SITE_MEM=viel: write it as 32G'), ('SITE_MEM=-4G', 'SITE_MEM=-4G'), ('SITE_MEM=32X', 'SITE_MEM=32X'), ('SITE_CPUS=8.0', 'SITE_CPUS=8.0: give a whole number'),
    ('SITE_GPUS=a100', 'SITE_GPUS=a100: give'), ('SITE_TIME=soon', 'SITE_TIME=soon: write it as 24:00:00'), ('SITE_TORCH=12.6', 'SITE_TORCH=12.6: write it as cu126'),
    ('SITE_PYTHON=3', 'SITE_PYTHON=3: give a version'), ('SITE_MEMORY=64G', 'no profile has SITE_MEMORY'), ("SITE_PARTITION='gpu long'", 'SITE_PARTITION=gpu long: it must be one plain word')])
def test_a_profile_that_cannot_be_is_named(tmp_path, line, said):
    (tmp_path/'s.env').write_text(line + '\n')
    res = lib(f'load_site {tmp_path}/s.env; echo loaded')
    assert res.returncode == 2 and said in res.stderr and len(res.stderr.splitlines()) == 1 and not res.stdout, res.stderr

@pytest.mark.parametrize('written, taken', [('24:00:00', '24:00:00'), ('24h', '24:00:00'), ('"2 days"', '2-0'), ('90min', '90'), ('1-12:00:00', '1-12:00:00'), ('90', '90'), ('INFINITE', 'infinite')])
def test_spellings_of_a_time(tmp_path, written, taken):
    (tmp_path/'s.env').write_text(f'SITE_TIME={written}\nSITE_GPUS=a100:2\n')
    assert lib(f'load_site {tmp_path}/s.env; echo $SITE_TIME $SITE_GPUS').stdout == f'{taken} a100:2\n'

@pytest.mark.parametrize('words', [['data.archive=/a b', "x=l'archive"], ['Étude des seins'], ['$(touch x)', 'a\nb', '"', ''], ["'", "''", '\\']])
@pytest.mark.parametrize('locale', ['C', 'C.UTF-8'])
def test_words_arrive_as_they_were(tmp_path, words, locale):
    "From a job file through one variable into Python, and through another shell."
    script = tmp_path/'s.sh'
    script.write_text(f'source {SLURM}/lib.sh; shown "$@"')
    line = run('bash', script, *words, LC_ALL=locale).stdout
    assert shlex.split(line) == words
    assert run('sh', '-c', f'printf "%s\\0" {line}').stdout.split('\0')[:-1] == words

NO_NAMES = ['', ' ', '.', '..', '-x', '../other', 'a/b', '/', 'a\nb', 'x'*300, '*', '[a-z]*', 'fir?t', '.git', '$(id)']

@pytest.mark.parametrize('name', NO_NAMES)
def test_names_that_are_none(tmp_path, name):
    "All runs, the project, or something outside."
    for cmd in (('download.sh', '--site', 'asuka', '--dry-run', name), ('monitor.sh', '--site', 'asuka', '--remote', name), ('submit.sh', '--dry-run', 'train', 'quick_config', name)):
        res = run(SLURM/cmd[0], *cmd[1:], cwd=tmp_path, check=False, RSYNC_RSH='false', PATH=programs(tmp_path/'bin', rsync='echo called', squeue='exit 1'))
        assert res.returncode == 2 and len(res.stderr.splitlines()) <= 2 and 'give ' in res.stderr and 'called' not in res.stdout, (cmd, res)
    for job in 'train', 'evaluate':
        assert 'give a' in lib(f'begin_job quick_config {shlex.quote(name)}', SLURM_JOB_ID='1', SLURM_JOB_NAME='j').stderr or name == ''

@pytest.mark.parametrize('share, folder', [('', 0o700), ('group', 0o750)])
def test_a_jobs_folder_and_log_are_the_users(tmp_path, share, folder):
    "Whatever the umask, and whoever makes them: the run's folder before its first training, the log that SLURM has made already."
    log = tmp_path/'nlbs-7.out'
    log.touch(0o644)
    log.chmod(0o644)
    code = f"""umask 022; source {SLURM}/lib.sh; begin_job quick_config first data.archive={tmp_path}/a output.results={tmp_path}/results output.share={share or "''"}; echo $run_dir; touch {tmp_path}/made"""
    with log.open('w') as out: subprocess.run(['bash', '-c', code], env={**os.environ, 'SLURM_JOB_ID': '7', 'SLURM_JOB_NAME': 'j', 'NLBS_VENV': sys.prefix}, stdout=out, check=True)
    rights = {p.name: p.stat().st_mode & 0o777 for p in (log, tmp_path/'made', tmp_path/'results', tmp_path/'results'/'first', tmp_path/'results'/'first'/'logs')}
    assert rights == {'nlbs-7.out': 0o600, 'made': 0o600, 'results': folder, 'first': folder, 'logs': folder} and f'{tmp_path}/results/first' in log.read_text()

def test_the_monitor_says_what_is_known(tmp_path):
    for status, said in (('{\n "state": "running"\n}', 'run  running\n'), ('{\n "state": "running",\n "epoch": 3\n}', 'run  running, epoch 3\n'),
                         ('{\n "phase": "prior",\n "epoch": 3,\n "epochs": 9,\n "loss": -0.5\n}', 'run  of an unknown state, phase prior, epoch 3 of 9, loss -0.5\n')):
        (tmp_path/'results'/'x').mkdir(parents=True, exist_ok=True)
        (tmp_path/'results'/'x'/'status.json').write_text(status)
        shown = run(SLURM/'monitor.sh', 'x', cwd=tmp_path).stdout
        assert said in shown and not re.search(r' of ,|loss $|step ,|left \?', shown, re.MULTILINE), shown
    (tmp_path/'results'/'x'/'private').mkdir()
    (tmp_path/'results'/'x'/'private'/'host').write_text('node7\n')
    (tmp_path/'results'/'x'/'logs').mkdir()
    (tmp_path/'results'/'x'/'logs'/'training.log').write_text('a\x1b]0;title\x07b\x1b[2J\rÉtude\n') # from anywhere: the terminal obeys none of it
    shown = run(SLURM/'monitor.sh', 'x', cwd=tmp_path).stdout
    assert ' on node7\n' in shown and 'Étude' in shown and '\x1b' not in shown and '\x07' not in shown, shown

def test_work_without_a_word_is_said(tmp_path):
    "Every 50 seconds, here made 0.2; its exit status is the work's; what watches it ends with it."
    res = lib("""eval "$(declare -f patiently | sed 's/sleep 50/sleep .2/')"; patiently copying bash -c 'sleep .9; exit 3'""")
    assert res.returncode == 3 and res.stderr.count('copying: ') >= 2

# ---- check

@pytest.fixture
def checked(tmp_path):
    "check.sh with stand-ins in front of the PATH; where no run is asked for, without an environment, which saves time."
    make_place(tmp_path)
    def check(*args, **scripts):
        alone = {} if args else dict(NLBS_VENV='/none')
        return run('slurm/check.sh', *args, cwd=tmp_path, check=False, PATH=programs(tmp_path/'bin', **scripts), **alone)
    return check

def test_check_without_a_cluster(checked):
    res = checked('quick_config', 'x', sinfo='exit 1', sbatch='exit 1')
    assert res.returncode == 1 and re.search('^FAIL  slurm ', res.stdout, re.MULTILINE)
    assert re.search('^ok    python ', res.stdout, re.MULTILINE) and re.search(r'^ok    data +.*will be drawn', res.stdout, re.MULTILINE)
    assert all(re.match('(ok  |warn|FAIL)  [a-z]+ +.', l) for l in res.stdout.splitlines()), res.stdout

@pytest.mark.parametrize('args, scripts, said', [
    (('quick_config', 'x', 'data.archive=/not/mounted', 'data.phantom=0'), dict(getconf='echo glibc 2.17'),
     ['FAIL  glibc      2.17 is older than the 2.28', 'FAIL  data       neither /not/mounted-cache-32 nor /not/mounted can be seen from']),
    (('none.yaml', 'x'), dict(sbatch='exit 0', sinfo='[[ $* == *-o* ]] || exit 0; [[ $* == *-p* ]] || echo cpu'),
     ["FAIL  settings   no settings file 'none.yaml'", "FAIL  partition  no 'gpu': there are cpu"]),
    ((), dict(sbatch='exit 0', sinfo='[[ $* == *%l* ]] && echo 8:00:00 || echo gpu:1'),
     ['FAIL  limit      gpu ends jobs after 8:00:00, the profile asks for 24:00:00: mend SITE_TIME', 'FAIL  python     check.sh: no environment in /none: run slurm/setup.sh first']),
])
def test_check_says_what_is_wrong(checked, args, scripts, said):
    res = checked(*args, **scripts)
    assert res.returncode == 1 and all(o in res.stdout for o in said), res.stdout

def test_an_old_driver_is_named(tmp_path):
    "torch for CUDA 12.6 on a driver of 2020."
    (tmp_path/'python').write_text('#!/bin/bash\n[[ $* == *version.cuda* ]] && echo 12.6\n')
    (tmp_path/'python').chmod(0o755)
    path = programs(tmp_path/'bin', nvidia_smi='echo 450.51.06')
    code = (SLURM/'check.sh').read_text().split("site=''")[0].replace('source "$(dirname', f'source "{SLURM}/lib.sh" #')
    res = run('bash', '-c', f'{code}\nwithin=(env PATH={tmp_path}:$PATH); check_gpu', check=False, PATH=path)
    assert 'FAIL  driver     450.51.06 is older than the 525.60 that CUDA 12.6 wants' in res.stdout, res.stdout + res.stderr

# ---- there and back

def test_a_transfer_that_cannot_be_says_why(tmp_path):
    for args, said in (((), "'': say code, cache, archive or wheelhouse"), (('cache', tmp_path), 'no prepared images here (no cache.json)'),
                       (('archive', tmp_path/'x'), 'no such folder'), (('code',), "site 'generic' names no SITE_HOST")):
        res = run('slurm/transfer.sh', '--site', 'generic', *args, check=False)
        assert res.returncode == 2 and said in res.stderr, res.stderr

def files(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob('*') if p.is_file()}

def test_code_goes_without_what_stays(ssh, tmp_path):
    "What git knows, the profile and what is named; an archive, a cache, a table with ids in the project's folder stay, and that is said."
    here = copy_project(tmp_path/'my clone')
    for name in ('mine.yaml', 'slurm/sites/mine.env', 'ids.csv', 'nlbs archive/a.dcm', 'cache-32/images.npy', 'nbs/seen.dcm', 'results/x/status.json', '.env'):
        (here/name).parent.mkdir(parents=True, exist_ok=True)
        (here/name).write_text(name)
    shutil.copy(tmp_path/'site.env', here/'slurm'/'sites'/'mine.env')
    for cmd in (['init', '-q'], ['add', '-A', ':!mine.yaml', ':!slurm/sites/mine.env', ':!ids.csv', ':!nlbs archive', ':!cache-32', ':!nbs/seen.dcm', ':!.env']): run('git', *cmd, cwd=here)
    (here/'CHANGELOG.md').unlink() # git knows it, and it isn't there
    def transfer(*args, check=True): return run(here/'slurm'/'transfer.sh', '--site', 'mine', *args, cwd=here, check=check, RSYNC_RSH=ssh.shell, NLBS_RETRY='1')
    assert 'slurm/train.slurm' in transfer('--dry-run', 'code').stdout and not [*ssh.far.iterdir()]
    for bad, said in (('none.yaml', 'wanted here'), ('results', 'folders go by'), (tmp_path/'site.env', 'lies outside')):
        res = transfer('code', bad, check=False)
        assert res.returncode == 2 and said in res.stderr and not [*ssh.far.iterdir()], res.stderr
    said = transfer('code', 'mine.yaml').stdout
    there = ssh.far/'nlbs-cvae'
    assert 'the same at both ends' in said and (there/'slurm'/'lib.sh').read_bytes() == (SLURM/'lib.sh').read_bytes()
    assert os.access(there/'slurm'/'setup.sh', os.X_OK)
    tracked = {*run('git', 'ls-files', '-z', cwd=here).stdout.split('\0')} - {'', 'CHANGELOG.md'}
    assert {*files(there)} == tracked | {'mine.yaml', 'slurm/sites/mine.env'}
    for stays in ('ids.csv', 'nlbs archive/', 'cache-32/', 'nbs/seen.dcm', 'results/', '.env'): assert f'\n  {stays}\n' in said, said

def test_a_folder_with_a_space_goes_and_comes(ssh, tmp_path):
    cache = tmp_path/"Étude d'ici"/'mine cache-32'
    cache.mkdir(parents=True)
    (cache/'cache.json').write_text('here')
    ssh('transfer.sh', 'cache', cache)
    assert (ssh.far/'data'/'mine cache-32'/'cache.json').read_text() == 'here'
    for name in ('status.json', 'galleries/private/originals.png'):
        (there := ssh.far/'nlbs-cvae'/'results'/'erste Studie'/name).parent.mkdir(parents=True, exist_ok=True)
        there.write_text(name)
    said = ssh('download.sh', '--to', tmp_path/'my results', 'erste Studie').stdout
    assert {*files(tmp_path/'my results'/'erste Studie')} == {'status.json'} and '--private fetches it too' in said
    ssh('download.sh', '--private', '--to', tmp_path/'my results', 'erste Studie')
    assert {*files(tmp_path/'my results'/'erste Studie')} == {'status.json', 'galleries/private/originals.png'}

@pytest.mark.parametrize('make', ['others', 'link', 'open'])
def test_a_folder_that_was_there_is_not_trusted(tmp_path, make):
    "Root starts no cluster in it, and kills nobody whom it names."
    if os.geteuid(): pytest.skip('only root gives a folder to another user')
    folder = tmp_path/'slurm'
    if make == 'link': folder.symlink_to(tmp_path)
    else: folder.mkdir()
    if make == 'others': os.chown(folder, 12345, 12345)
    if make == 'open': folder.chmod(0o777)
    for script in 'up.sh', 'down.sh':
        res = run(SLURM/'testing'/script, check=False, SLURM_TEST_DIR=str(folder))
        assert res.returncode == 2 and "is another user's, a link, or open to others" in res.stderr
    assert not [*folder.iterdir()] or make == 'link'

def test_private_files_stay(ssh, tmp_path):
    cache = tmp_path/'mine-cache-32'
    for name in ('cache.json', 'images.npy', 'private/sources.csv', 'report/notes.txt'):
        (cache/name).parent.mkdir(parents=True, exist_ok=True)
        (cache/name).write_text(name)
    (cache/'.may-not-leave').write_text('notes.txt\n')
    ssh('transfer.sh', 'cache', cache)
    assert {*files(ssh.far/'data'/cache.name)} == {'cache.json', 'images.npy', '.may-not-leave'}

CUT = """import os, subprocess, sys
def pipe(source, sink):
    "A link that dies after 4 MB, which arrive; nothing is held back on its way, the first words neither."
    left = 4 << 20
    os.set_blocking(sink, True) # rsync hands over one that is not
    while left and (b := os.read(source, min(left, 1 << 16))): left -= os.write(sink, b)
way, *shell = sys.argv[1:]
link = subprocess.Popen(shell, **{way: subprocess.PIPE})
if way == 'stdin':
    pipe(0, link.stdin.fileno())
    link.stdin.close() # killed at once it may lose what it hasn't sent yet
    link.wait(60)
else:
    pipe(link.stdout.fileno(), 1)
    link.kill()
sys.exit(255)"""

@pytest.mark.parametrize('script', ['transfer.sh', 'download.sh'])
def test_a_broken_link_is_taken_up_again(ssh, tmp_path, script):
    "The connection is cut twice in the middle of a file; what had arrived is not sent again."
    there, here, args, way, healthy = {
        'transfer.sh': (ssh.far/'data'/'archive', tmp_path/'archive', ['archive', tmp_path/'archive'], 'stdin', 1), # the first call makes a folder
        'download.sh': (ssh.far/'nlbs-cvae'/'results'/'big', tmp_path/'results'/'big', ['--to', tmp_path/'results', 'big'], 'stdout', 0)}[script]
    big = (here if way == 'stdin' else there)/'big.dcm'
    big.parent.mkdir(parents=True)
    big.write_bytes(os.urandom(12 << 20))
    (tmp_path/'cut.py').write_text(CUT)
    cut = programs(tmp_path/'bin', cut=f'''echo >>{tmp_path}/calls; n=$(($(wc -l <{tmp_path}/calls) - {healthy}))
if ((n == 1 || n == 2)); then exec {sys.executable} {tmp_path}/cut.py {way} {ssh.shell} "$@"; else exec {ssh.shell} "$@"; fi''').split(':')[0]
    said = ssh(script, *args, shell=f'{cut}/cut').stdout
    assert 'attempt 1 of 10' in said and 'attempt 2 of 10' in said and 'attempt 3' not in said and 'the same at both ends' in said, said
    kept = re.search(r'Matched data: ([\d.]+)M', said)
    assert kept and float(kept[1]) > 6, said
    assert files(there) == files(here)

def test_a_link_that_never_holds_is_an_error(ssh, tmp_path):
    (tmp_path/'archive').mkdir()
    res = ssh('transfer.sh', '--tries', 2, 'archive', tmp_path/'archive', shell='false', check=False)
    assert res.returncode == 2 and 'cannot make' in res.stderr and 'does ssh let you in' in res.stderr

def test_the_monitor_looks_from_afar(ssh):
    run_there = ssh.far/'nlbs-cvae'/'results'/'first'
    run_there.mkdir(parents=True)
    (ssh.far/'nlbs-cvae'/'slurm').symlink_to(SLURM)
    (run_there/'status.json').write_text('{\n "state": "failed",\n "phase": "prior",\n "error": "a loss of nan"\n}\n')
    shown = ssh('monitor.sh', '--remote', 'first').stdout
    assert 'run  failed, phase prior' in shown and 'why  a loss of nan' in shown

def test_a_run_comes_back(ssh, tmp_path):
    there = ssh.far/'nlbs-cvae'/'results'/'first'
    for name in ('status.json', 'lock.json', 'checkpoints/last.pth', 'model/model.safetensors', 'logs/train-1.out'):
        (there/name).parent.mkdir(parents=True, exist_ok=True)
        (there/name).write_text(name)
    here = tmp_path/'results'
    ssh('download.sh', '--to', here, 'first')
    assert {*files(here/'first')} == {'status.json', 'model/model.safetensors'}
    ssh('download.sh', '--to', here, '--checkpoints', '--private', 'first')
    assert {*files(here/'first')} == {*files(there)} - {'lock.json'}
    res = ssh('download.sh', '--to', here, 'second', check=False)
    assert res.returncode and 'second' in res.stderr

def test_what_shows_women_stays(ssh, tmp_path):
    "Real images, what names women, and a report with real images come only when asked for."
    there, here = ssh.far/'nlbs-cvae'/'results'/'first', tmp_path/'results'
    private = ('private/errors.txt', 'private/places.yaml', 'galleries/private/final_samples/originals.png', 'galleries/epoch_010/originals.png',
               'galleries/final_samples/reconstructions.png', 'metrics/evaluation_report.pdf', 'metrics/features/a.npy',
               'encoded/latents_000000.npz', 'encoded/private/sources.csv')
    public = ('status.json', 'galleries/final_samples/samples.png', 'metrics/fid_scores.json', 'metrics/.private', 'metrics/valid/evaluation_report.pdf')
    for name in private + public:
        (there/name).parent.mkdir(parents=True, exist_ok=True)
        (there/name).write_text('/evaluation_report.pdf\n' if name.endswith('.private') else name)
    ssh('download.sh', '--to', here, 'first')
    assert {*files(here/'first')} == {*public}
    ssh('download.sh', '--to', here, '--private', 'first')
    assert {*files(here/'first')} == {*private, *public}
