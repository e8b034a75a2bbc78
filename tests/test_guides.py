"The guides tell the truth: what the architecture guide names is there, and every command would be understood."
import importlib, re

import nbformat, pytest
from commands import is_setting, prose, settings_named, typed, wrong
from project import NBS, ROOT, notebooks

FIRST = """models/cvae.py models/layers.py models/losses.py data/dataset.py data/transforms.py data/utils.py training/train_cvae.py
utils/training_utils.py utils/generate_samples.py assessment/evaluate_model.py configs/training_config.yaml
configs/hpc_training_config.yaml envs/requirements.yaml demo.py quick_train.py test_model.py test_dataset.py test_structure.py
test_training.py requirements.txt requirements_hpc.txt README.md NLBS_CVAE_Architecture_Guide.md HPC_INSTALLATION_GUIDE.md
ASUKA_TRANSFER_GUIDE.md ASUKA_QUICKSTART.md hpc_setup.md setup_hpc.sh setup_hpc_offline.sh setup_asuka.sh setup_asuka_custom.sh
check_hpc_environment.sh check_hpc_readiness.sh transfer_to_hpc.sh transfer_to_asuka.sh download_results.sh monitor_hpc.sh
train_job.slurm train_asuka.slurm results/checkpoints/ results/logs/ results/galleries/ results/metrics/""".split()

def text(path): return '\n'.join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == 'markdown')

def successors():
    "Pairs of a first-project file and the cell of the table beside it."
    rows = re.findall(r'^\| (`.+?) \| (.+?) \|$', text(NBS/'guides'/'architecture.ipynb'), re.MULTILINE)
    return [(old, new) for olds, new in rows for old in re.findall('`(.+?)`', olds) if not re.fullmatch(r'\d\d[a-z]*_\w+', old)]

def is_there(
    name, # path, module.Name, or make target
)->bool:
    "Does the checkout have what the guide names?"
    if name.startswith('make '): return bool(re.search(rf'^{name[5:]}:', (ROOT/'Makefile').read_text(), re.MULTILINE))
    if (ROOT/name).exists(): return True
    module, _, attribute = name.partition('.')
    try: return bool(attribute) and hasattr(importlib.import_module(f'nlbs_cvae.{module}'), attribute)
    except ModuleNotFoundError: return False

def test_every_numbered_notebook_has_its_row():
    "The guide's table is made from the notebooks when it is executed, and kept with it."
    made = [o for c in nbformat.read(NBS/'guides'/'architecture.ipynb', 4).cells for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {})]
    rows = re.findall(r'^\| `(\d\d[a-z]*_\w+)` \|', made[0].data['text/markdown'], re.MULTILINE)
    assert rows == sorted(p.stem for p in NBS.glob('[0-9]*_*.ipynb')), 'execute the guide anew'

def test_every_file_of_the_first_project_has_its_row():
    assert sorted(old for old, _ in successors()) == sorted(FIRST)

SOURCES = [o for o in successors() if not o[0].startswith('results/')] # a run's files: test_end_to_end looks for those

@pytest.mark.parametrize('old, new', SOURCES, ids=[old for old, _ in SOURCES])
def test_the_successor_is_there(old, new):
    named = re.findall('`(.+?)`', new)
    missing = [o for o in named if not is_there(o)]
    assert named
    if new.startswith('*next:*'): assert missing == named, f'{new} has come: take the *next* away'
    else: assert not missing

def test_what_is_not_there_would_be_seen():
    assert is_there('run.RunFolder') and is_there('Makefile') and is_there('make demo')
    assert not any(map(is_there, ('core.Nothing', 'nothing.py', 'nothing.Nothing', 'make nothing')))

@pytest.mark.parametrize('path', notebooks(), ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    links = re.findall(r'\]\((?!https?:|mailto:|attachment:)([^)#\s]+)', text(path))
    assert not [o for o in links if not (path.parent/o).exists()]

TEXTS = [*(ROOT/o for o in ('README.md', 'README.fr.md', 'CONTRIBUTING.md', 'SECURITY.md')), *sorted((NBS/'guides').glob('*.ipynb'))]

@pytest.mark.parametrize('path', TEXTS, ids=lambda p: p.name)
def test_commands_are_the_real_ones(path):
    assert not [f'{o}: {problem}' for o in typed(prose(path)) if (problem := wrong(o))]
    assert not [o for o in settings_named(prose(path)) if not is_setting(o)]

@pytest.mark.parametrize('command', ['make nothing', 'make train NOTHING=1', 'make train OVERRIDES="training.nothing=1"', 'nlbs_nothing a',
    '.venv/bin/nlbs_generate a b --nothing 1', 'slurm/nothing.sh', 'slurm/submit.sh --nothing train'])
def test_a_wrong_command_would_be_seen(command):
    assert typed(f'`{command}`') == typed(f'```sh\n{command} # why\n```') == [command] and wrong(command)
