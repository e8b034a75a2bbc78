"The commands that a text tells its reader to type, and whether the checkout would understand them."
import inspect, re, shlex
from configparser import ConfigParser
from functools import cache
from importlib import import_module

import nbformat
from nlbs_cvae.settings import Settings
from project import ROOT

PROGRAM = re.compile(r'^(?:\.venv/bin/\w+|make|nlbs_\w+|(?:bash )?slurm/\w+\.sh)(?= |$)')

def prose(path):
    "A Markdown file, or what the Markdown cells of a notebook say."
    if path.suffix == '.md': return path.read_text(encoding='utf-8')
    return '\n\n'.join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == 'markdown')

def typed(text):
    "What stands in shell blocks, a line each, and whatever else in backticks begins with one of our programs."
    lines = [l for block in re.findall(r'^```(?:sh|bash)\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
             for l in re.sub(r'\\\n\s*', ' ', block).splitlines()]
    inline = [' '.join(o.split()) for o in re.findall(r'`([^`]+)`', re.sub(r'^```.*?^```', '', text, flags=re.MULTILINE | re.DOTALL))]
    parts = [o.strip() for l in lines + inline for o in re.split(r'&&|\|\||;|\|(?!\|)', re.sub(r'(^|\s)#.*', '', l))]
    return [o for o in parts if PROGRAM.match(o)]

def settings_named(text):
    "block.key alone in backticks, and wherever a value is given to it; not a module's function, nor training.log."
    block = r'(?:data|model|training|evaluation|output)\.(?!log\b)[a-z]\w*'
    named = set(re.findall(rf'`({block})`', text)) | set(re.findall(rf'(?<![\w/.])({block})=', text))
    return {o for o in named if not is_function(o)}

def is_function(name):
    module, _, attribute = name.partition('.')
    return (ROOT/'nlbs_cvae'/f'{module}.py').exists() and hasattr(import_module(f'nlbs_cvae.{module}'), attribute)

def is_setting(name):
    block, _, key = name.partition('.')
    return hasattr(getattr(Settings(), block, None), key)

@cache
def scripts():
    "Our console commands: {name: (module, function)}."
    cfg = ConfigParser()
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    entries = [re.fullmatch(r'(\w+)=([\w.]+):(\w+)', o).groups() for o in cfg['DEFAULT']['console_scripts'].split()]
    return {name: (module, function) for name, module, function in entries}

@cache
def parameters(name): # of a console command: {option: Parameter}
    module, function = scripts()[name]
    return inspect.signature(getattr(import_module(module), function)).parameters

@cache
def makefile():
    text = (ROOT/'Makefile').read_text()
    return set(re.findall(r'^([a-z-]+):', text, re.MULTILINE)), {'PYTHON', *re.findall(r'^([A-Z]+) *\?=', text, re.MULTILINE)}

def wrong(
    command, # as a text has it
)->str:      # '' where all is well
    "What is wrong with a command."
    program, *args = shlex.split(command.removeprefix('bash '))
    options = [o.partition('=')[0] for o in args if o.startswith('--') and o != '--']
    if program == 'make': return wrong_make([o for o in args if o != '...'])
    name = program.removeprefix('.venv/bin/')
    if name in scripts() or name.startswith('nlbs_'): return wrong_script(name, options)
    if program.startswith('slurm/'): return wrong_slurm(ROOT/program, options)
    return '' if (ROOT/'.venv'/'bin'/name).exists() or not (ROOT/'.venv').exists() else f'no {program}'

def wrong_make(args):
    targets, variables = makefile()
    bad = [o for o in args if o.partition('=')[0] not in (variables if '=' in o else targets)]
    keys = [k.partition('=')[0] for o in args if o.startswith('OVERRIDES=') for k in o.partition('=')[2].split()]
    return ', '.join([f'make knows no {o}' for o in bad] + [f'no setting {k}' for k in keys if not is_setting(k)])

def wrong_script(name, options):
    if name not in scripts(): return f'no command {name}'
    known = {f'--{o}' for o in parameters(name)} | {'--help'}
    return ', '.join(f'{name} has no {o}' for o in options if o not in known and sum(k.startswith(o) for k in known) != 1) # a beginning will do

def wrong_slurm(script, options):
    if not script.exists(): return f'no {script.name}'
    usage = re.match(r'(#.*\n)+', script.read_text())[0]
    known = set(re.findall(r'--[a-z-]+', usage))
    forwarded = {f'--{o}' for o in parameters('nlbs_generate')} if script.name == 'submit.sh' else set()
    return ', '.join(f'{script.name} has no {o}' for o in options if o not in known | forwarded)
