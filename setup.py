"Packaging. Whatever is said once is said in settings.ini, which nbdev reads too."
from configparser import ConfigParser
from pathlib import Path
from shutil import copy2

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
cfg = ConfigParser()
cfg.read(here/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']

def listed(key): return cfg.get(key, '').split()

class BuildWithRunners(build_py):
    "A wheel carries the notebooks that papermill runs; the checkout keeps them in nbs/ alone."
    def run(self):
        super().run()
        if self.editable_mode: return
        dest = Path(self.build_lib)/cfg['lib_name']/'runners'
        dest.mkdir(parents=True, exist_ok=True)
        for name in listed('runners'): copy2(here/cfg['nbs_path']/name, dest)

setup(
    name=cfg['repo'], version=cfg['version'], description=cfg['description'], keywords=listed('keywords'),
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'],
    license='Apache-2.0', license_files=['LICENSE'],
    long_description=(here/'README.md').read_text(encoding='utf-8') if (here/'README.md').exists() else '',
    long_description_content_type='text/markdown',
    packages=find_packages(include=[cfg['lib_name'], cfg['lib_name']+'.*']),
    package_data={cfg['lib_name']: ['configs/**/*.yaml']}, include_package_data=True, zip_safe=False,
    python_requires='>=' + cfg['min_python'],
    install_requires=listed('requirements') + listed('pip_requirements'),
    extras_require={'dev': listed('dev_requirements')},
    entry_points={'console_scripts': listed('console_scripts')},
)
