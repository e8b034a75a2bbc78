"Packaging. Whatever is said once is said in settings.ini, which nbdev reads too."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

cfg = ConfigParser()
cfg.read(Path(__file__).parent/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']

def listed(key): return cfg.get(key, '').split()

lib, readme = cfg['lib_name'], Path(__file__).parent/'README.md'
runners = f'{lib}.runners' # the notebooks that papermill runs travel as package data; the checkout keeps them in nbs/

setup(
    name=cfg['repo'], version=cfg['version'], description=cfg['description'], keywords=listed('keywords'),
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'],
    license='Apache-2.0', license_files=['LICENSE'],
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '', long_description_content_type='text/markdown',
    packages=[*find_packages(include=[lib]), runners], package_dir={runners: cfg['nbs_path']},
    package_data={lib: ['configs/**/*.yaml', 'models/**/*'], runners: listed('runners')},
    python_requires='>=' + cfg['min_python'],
    install_requires=listed('requirements') + listed('pip_requirements'),
    extras_require={'web': listed('web_requirements'), 'seg': listed('seg_requirements'), 'frd': listed('frd_requirements'),
                    'dev': listed('dev_requirements') + listed('web_requirements'),
                    'bench': listed('bench_requirements')},
    entry_points={'console_scripts': listed('console_scripts')},
)
