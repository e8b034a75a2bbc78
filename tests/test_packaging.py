"A wheel and an sdist build without a network, with all that a run needs in them."
import subprocess, sys, tarfile, zipfile
from pathlib import Path

from project import ROOT, RUNNERS

def test_wheel_and_sdist(project, tmp_path):
    cmd = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', tmp_path/'dist']
    built = subprocess.run(cmd, cwd=project, capture_output=True, text=True) # the wheel is built from the sdist
    assert built.returncode == 0, built.stdout + built.stderr
    wheel, sdist = next((tmp_path/'dist').glob('*.whl')), next((tmp_path/'dist').glob('*.tar.gz'))
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = (ROOT/'nlbs_cvae').rglob('*')
    wanted = {p.relative_to(ROOT).as_posix() for p in sources if p.suffix in ('.py', '.yaml')}
    wanted |= {f'nlbs_cvae/runners/{o}.ipynb' for o in RUNNERS}
    assert not wanted - names
    assert not [o for o in names if o.split('/')[0] not in ('nlbs_cvae', next(n for n in names if '.dist-info' in n).split('/')[0])]
    with tarfile.open(sdist) as f: assert any(o.endswith('/settings.ini') for o in f.getnames())

def test_console_scripts_are_there():
    for name in ('phantom', 'prepare', 'train', 'generate', 'evaluate'):
        script = Path(sys.executable).with_name(f'nlbs_{name}')
        shown = subprocess.run([script, '--help'], capture_output=True, text=True)
        assert shown.returncode == 0 and 'usage:' in shown.stdout, f'{script}: {shown.stderr}'
