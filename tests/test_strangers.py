"Models and checkpoints from strangers: whatever their files say, it is a line that names the file, soon, and nothing is built from it."
import copy, io, json, os, random, struct, tracemalloc, zlib

import numpy as np, pandas as pd, pytest, torch
from nlbs_cvae import generator as generator_module
from nlbs_cvae.conditions import Condition, Conditions
from nlbs_cvae.core import InputError, sha256
from nlbs_cvae.cvae import ConditionalVAE
from nlbs_cvae.dicom import write_dicom
from nlbs_cvae.findings import with_findings
from nlbs_cvae.generator import Generator, Prior
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.timeout(120) # what hangs fails

@pytest.fixture(scope='module')
def good(tmp_path_factory):
    "A small untrained model with maps of findings: its folder."
    conditions = Conditions([Condition('view', ('CC', 'MLO'), counts=(9, 9, 0)), Condition('cancer', ('0', '1'), counts=(9, 9, 0))])
    vae = with_findings(ConditionalVAE(conditions.sizes, (64, 32), 8, channels=8, max_channels=16, cond_dim=16), [1])
    folder = tmp_path_factory.mktemp('good')
    Generator(vae, Prior(conditions.sizes, vae.grid_shape, 8, channels=16, width=32, map_shape=vae.map_shape), conditions).eval().save(folder)
    return folder

@pytest.fixture
def model(good, tmp_path, monkeypatch):
    "A copy of it, and a guard: a network in memory is built only for files that are right."
    for p in good.iterdir(): (tmp_path/p.name).write_bytes(p.read_bytes())
    build, built = generator_module._build, []
    def guarded(*args):
        gen = build(*args)
        if next(gen.parameters()).device.type != 'meta': built.append(sum(p.numel() for p in gen.parameters()))
        return gen
    monkeypatch.setattr(generator_module, '_build', guarded)
    return tmp_path, built

def refused(folder, *words):
    "The error of opening a model: one line that holds these words."
    with pytest.raises(InputError) as e: Generator.from_pretrained(folder)
    text = str(e.value)
    assert len(text.splitlines()) == 1 and len(text) < 2000 and text.isprintable() and str(folder) in text and not [w for w in words if w not in text], text

def put(config, path, value):
    "Set, or with `...` delete, what stands at a path such as 'model.blocks'."
    *keys, last = [int(k) if k.isdigit() else k for k in path.split('.')]
    for k in keys: config = config[k]
    if value is ...: del config[last]
    else: config[last] = value

HUGE, DEEP = 10**12, json.loads('['*200 + ']'*200)
CONFIGS = [(k, v) for k, values in {
    'format': ['nlbs-cvae 99', 'nlbs-cvae 1', None, 3, ...], 'version': [1, ...], 'sha256': [None, 'x'*64, '', ...], 'more': [1], 'meta': [None, [], 'x', ...],
    'model': [None, [], 'x', 3, ...], 'prior': [[], 'x', True, {}, ...], 'conditions': [None, [], 'x', {}, ...],
    'model.latent_dim': [HUGE, -1, 0, 2.5, '8', True, None, [], float('nan'), 10**400, 9, ...], 'model.levels': [3, 0, 1, '2', DEEP],
    'model.grid_factor': [1, 2, 3, 0, -4, 16, 128, HUGE], 'model.grid_channels': [HUGE, 0, 5], 'model.channels': [HUGE, 10**9, -8, 'x'*10**5, 9],
    'model.max_channels': [HUGE, 0, 12], 'model.blocks': [HUGE, 10**6, 33, 0, -1, 2], 'model.cond_dim': [HUGE, 0, 17, {}],
    'model.cond_dropout': ['0.1', float('nan'), float('inf'), 2, -1, []], 'model.checkpoint_activations': [1, 'yes', None],
    'model.resolution': [64, [64], [64, 64, 64], [HUGE, HUGE], [-64, -32], [0, 0], [64, 33], ['64', '32'], [[64], [32]], None, [65536, 65536], [4096, 4096]],
    'model.sizes': [[3], [3, HUGE], [], [3]*10**5, [-3, 3], None, 'xx', [3, 3.0, 3]], 'model.flags': [[0], [2], [-1], [1, 1], ['1'], 1, [True], [], [HUGE], ...],
    'model.extra': [1], 'model.__class__': ['x'], 'prior.channels': [HUGE, 0, '16', 17], 'prior.blocks': [10**9, 0, 2], 'prior.width': [HUGE, -1, 33, ...], 'prior.map_shape': [[1, 2, 2]],
    'conditions.conditions': [[], 'x', {}, 3, [3], [[]]], 'conditions.more': [1], 'conditions.constants': [{'/../x': 'y'}, 'x', {'x': 3}],
    'conditions.conditions.0.name': ['NUL', 'con.x', '\U00010400'*60, '/../../x', '..', '', 3, 'a\x1b[2J', 'x'*10**5, 'seed', 'cancer', '<script>', None],
    'conditions.conditions.0.values': ['CC', ['CC'], [], ['CC', 'cc'], ['CC', 3], ['CC', 'a\x1b]0;x\x07'], ['x'*10**4, 'y'], ['=HYPERLINK("http://x")', 'y'], ["-2+3+cmd|' /C x'!A0", 'y'], ['@SUM(1)', 'y'], [str(i) for i in range(5000)], {}, ...],
    'conditions.conditions.0.edges': [[1, 2], ['x'], [float('nan')], None, [2, 1], {}], 'conditions.conditions.0.counts': [[1], [-1, 1, 1], ['1', '2', '3'], [HUGE**3]*3, None, [1.5, 2, 3]],
    'conditions.conditions.0.more': [1]}.items() for v in values]

@pytest.mark.parametrize('key, value', CONFIGS, ids=[f'{k}={repr(v)[:24]}' for k, v in CONFIGS])
def test_config_that_lies(model, key, value):
    (folder, built), config = model, json.loads((model[0]/'config.json').read_text())
    put(config, key, value)
    (folder/'config.json').write_text(json.dumps(config))
    refused(folder)
    assert not built

RAW = dict(empty=b'', nul=b'\0'*100, deep=b'['*10**6, deep_object=b'{"a":'*10**5, twice=b'{"format": "x", "format": "nlbs-cvae 2"}', list=b'[]', text=b'"x"', number=b'1', cut=b'{"format": ',
           long_number=b'{"format": ' + b'9'*10**5 + b'}', latin=b'{"format": "\xff\xfe\xfa"}', surrogate=b'{"format": "\\ud800"}', large=b' '*(2**20 + 1), null=b'null')

@pytest.mark.parametrize('name', RAW)
def test_config_that_is_none(model, name):
    (model[0]/'config.json').write_bytes(RAW[name])
    refused(model[0], 'config.json')

def header(entries, data=b'', length=None):
    "A safetensors file with this header."
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack('<Q', len(text) if length is None else length) + text + data

WEIGHTS = dict(
    empty=b'', seven=b'\1'*7, length=header({}, length=2**63), longer=header({}, length=10**6), large=header(b' '*(2**23 + 1)), none=header({}), json=header(b'{'), deep=header(b'['*10**5), list=header(b'[]'),
    offsets=header({'a': dict(dtype='F32', shape=[4], data_offsets=[0, 4])}, b'\0'*4), beyond=header({'a': dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42])}),
    overflow=header({'a': dict(dtype='F32', shape=[2**62, 2**62], data_offsets=[0, 0])}), negative=header({'a': dict(dtype='F32', shape=[-1], data_offsets=[0, -4])}),
    backward=header({'a': dict(dtype='F32', shape=[1], data_offsets=[4, 0])}, b'\0'*4), kind=header({'a': dict(dtype='X99', shape=[1], data_offsets=[0, 4])}, b'\0'*4),
    other=header({'a\x1b[2J': dict(dtype='F32', shape=[1], data_offsets=[0, 4])}, b'\0'*4), pickle=b'\x80\x04c' + b'os\nsystem\n'*9)

@pytest.mark.parametrize('name', WEIGHTS)
def test_weights_that_lie(model, name):
    (folder, built), config = model, json.loads((model[0]/'config.json').read_text())
    (folder/'model.safetensors').write_bytes(WEIGHTS[name])
    (folder/'config.json').write_text(json.dumps(config | dict(sha256=sha256(WEIGHTS[name]))))
    refused(folder, 'model.safetensors')
    assert not built

@pytest.mark.parametrize('change, word', [
    (lambda w: w.pop('model.out' if 'model.out' in w else next(iter(w))), 'is missing'), (lambda w: w.update(more=torch.zeros(3)), 'more'),
    (lambda w: w.update({k: v[None].clone() for k, v in list(w.items())[:1]}), 'has the shape'), (lambda w: w.update({k: v.double() for k, v in list(w.items())[:1]}), 'F64'),
    (lambda w: next(v for v in w.values() if v.is_floating_point()).fill_(float('nan')), 'finite'), (lambda w: w['model.finding_net.flags'].fill_(0), 'flags'),
    (lambda w: w['model.bands.std'][3:4].fill_(0), 'above zero'), (lambda w: w['prior.z_std'].fill_(-1), 'above zero')])
def test_weights_of_another_model(model, change, word):
    folder, _ = model
    weights, config = load_file(folder/'model.safetensors'), json.loads((folder/'config.json').read_text())
    change(weights)
    save_file(weights, folder/'model.safetensors')
    (folder/'config.json').write_text(json.dumps(config | dict(sha256=sha256(folder/'model.safetensors'))))
    refused(folder, 'model.safetensors', word)

@pytest.mark.parametrize('name', ['config.json', 'model.safetensors'])
@pytest.mark.parametrize('kind', ['pipe', 'device', 'loop', 'dangling', 'folder', 'sparse'])
def test_files_that_are_none(model, name, kind):
    p = model[0]/name
    p.unlink()
    if kind == 'pipe': os.mkfifo(p)
    elif kind == 'folder': p.mkdir()
    elif kind == 'sparse':
        p.touch()
        os.truncate(p, 2**42)
    else: p.symlink_to(dict(device='/dev/zero', loop=name, dangling='nowhere')[kind])
    with pytest.raises(InputError, match='no such file|regular|read|at most|safetensors|links'): Generator.from_pretrained(model[0])

def mutate(rng, o):
    "One change somewhere in a JSON value."
    places = []
    def walk(v):
        for k in v if isinstance(v, dict) else range(len(v)) if isinstance(v, list) else ():
            places.append((v, k))
            walk(v[k])
    walk(o)
    v, k = rng.choice(places)
    odd = [None, True, -1, 0, 1, 2, 7, 10**9, 10**30, .5, float('nan'), float('inf'), '', '8', '../x', '\x1b[0m', [], {}, [1], {'a': 1}, DEEP]
    act = rng.randrange(4)
    if act == 0: v[k] = copy.deepcopy(rng.choice(odd))
    elif act == 1 and isinstance(v, dict): del v[k]
    elif act == 2 and isinstance(v, dict): v[f'{k}{rng.randrange(9)}'] = v[k]
    else: v[k] = copy.deepcopy(rng.choice(rng.choice(places)[:1] if rng.random() < .2 else odd)) if not isinstance(v[k], (int, float)) else v[k]*rng.choice([-1, 2, 3, 1000]) + rng.choice([0, 1])

def test_hundreds_of_ways_to_be_wrong(model):
    "Seeded changes of a right config: it opens, or says in a line why not; what is built is of a right size."
    folder, built = model
    right, most = json.loads((folder/'config.json').read_text()), sum(v.numel() for v in load_file(folder/'model.safetensors').values())
    opened = 0
    for seed in range(400):
        rng, config = random.Random(seed), copy.deepcopy(right)
        for _ in range(rng.randrange(1, 4)): mutate(rng, config)
        (folder/'config.json').write_text(json.dumps(config))
        try: Generator.from_pretrained(folder)
        except InputError as e: assert len(str(e).splitlines()) == 1 and str(e).isprintable()
        else: opened += 1
    assert opened < 150 and all(n <= most for n in built)

def test_cut_and_flipped(model):
    "Bytes changed or cut off anywhere."
    folder, _ = model
    for name in ('config.json', 'model.safetensors'):
        data = (folder/name).read_bytes()
        for seed in range(24):
            rng, changed = random.Random(seed), bytearray(data)
            if seed % 3: changed[rng.randrange(min(len(data), 4000))] ^= 1 << rng.randrange(8)
            else: del changed[rng.randrange(len(data)):]
            (folder/name).write_bytes(changed)
            try: Generator.from_pretrained(folder)
            except InputError as e: assert len(str(e).splitlines()) == 1
        (folder/name).write_bytes(data)
    Generator.from_pretrained(folder)

@pytest.mark.parametrize('name', ['../secret.png', '/secret.png', 'link.png', 'folder/../../secret.png', 'a\0b', 'pipe.png', 'bomb.png', 'text.png', 'x.dcm'])
def test_manifest_that_points_elsewhere(tmp_path, name):
    "A folder of samples from somebody: its manifest names files of its own, and those are images."
    from nlbs_cvae.figures import save_png
    from nlbs_cvae.folders import read_images
    folder, secret = tmp_path/'samples', tmp_path/'secret.png'
    (folder/'folder').mkdir(parents=True)
    save_png(secret, np.zeros((8, 8), np.uint8))
    (folder/'link.png').symlink_to(secret)
    os.mkfifo(folder/'pipe.png')
    bomb = bytearray(secret.read_bytes())
    bomb[16:24] = struct.pack('>II', 10**5, 10**5)
    bomb[29:33] = struct.pack('>I', zlib.crc32(bomb[12:29]))
    (folder/'bomb.png').write_bytes(bomb)
    for odd in ('text.png', 'x.dcm'): (folder/odd).write_text('not an image')
    with pytest.raises(InputError, match='outside of its folder|regular|image'): read_images(folder, pd.DataFrame(dict(row=[0], file=[name if name != '/secret.png' else str(secret)])))

def npy(text, rest=b''): return b'\x93NUMPY\x01\0' + struct.pack('<H', len(text)) + text + rest
def packed(): np.savez(file := io.BytesIO(), a=np.zeros(3)); return file.getvalue()
ARRAYS = dict(
    sides=lambda: npy(b"{'descr': '<u2', 'fortran_order': False, 'shape': (1, 20000, 20000)}\n"), rows=lambda: npy(b"{'descr': '<u2', 'fortran_order': False, 'shape': (1000000000, 64, 64)}\n"),
    brackets=lambda: npy(b"{'descr': " + b'('*8990), objects=lambda: npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 8, 8)}\n", b'cos\nsystem\n'), packed=packed, flat=lambda: npy(b"{'descr': '<u2', 'fortran_order': False, 'shape': ()}\n"),
    long=lambda: b'\x93NUMPY\x02\0' + struct.pack('<I', 2**31), negative=lambda: npy(b"{'descr': '<u2', 'fortran_order': False, 'shape': (1, -8, 8)}\n"), empty=lambda: b'')

@pytest.mark.parametrize('name', ARRAYS)
def test_an_array_that_lies(tmp_path, name):
    "All images of a folder from somebody in one file, which takes no room on the disk and much in memory, or is something else."
    from nlbs_cvae.folders import read_images
    (tmp_path/'images.npy').write_bytes(ARRAYS[name]())
    os.truncate(tmp_path/'images.npy', 2**33)
    with pytest.raises(InputError, match='images.npy'): read_images(tmp_path, pd.DataFrame(dict(row=[0], file=['images.npy'])))

def test_whose_a_file_is_is_asked_within_bounds(tmp_path):
    "Before a generation writes into a folder it looks whether what lies there is its own: a few MB that stand for many don't."
    from nlbs_cvae.folders import is_ours
    deflated, bomb = tmp_path/'deflated.dcm', tmp_path/'000000.dcm'
    ds = dcmread(write_dicom(tmp_path/'plain.dcm', np.zeros((64, 64), np.uint16), laterality='L', view='CC'))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(deflated)
    data, pack = deflated.read_bytes(), zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = data.index(struct.pack('<HH', 2, 0)) + 12
    start += struct.unpack('<I', data[start - 4:start])[0]
    head = zlib.decompress(data[start:], -zlib.MAX_WBITS).partition(struct.pack('<HH', 0x7fe0, 0x10))[0]
    bomb.write_bytes(data[:start] + pack.compress(head + struct.pack('<HH2sHI', 0x7fe0, 0x10, b'OW', 0, 2**32 - 2)) + b''.join(pack.compress(bytes(2**24)) for _ in range(16)) + pack.flush())
    (tmp_path/'manifest.csv').touch()
    os.truncate(tmp_path/'manifest.csv', 2**33)
    tracemalloc.start()
    assert not is_ours(bomb) and not is_ours(tmp_path/'manifest.csv')
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()

@pytest.mark.parametrize('text', ['[]', '3', '{}', '{"schema": "nlbs-cvae metrics 1"}', '{"schema": "nlbs-cvae metrics 1", "scores": 3}', '{"schema": "nlbs-cvae metrics 1", "scores": {"a": {"b": {"value": 1}}}}'])
def test_metrics_that_are_none(tmp_path, text):
    from nlbs_cvae.measure import read_metrics
    (tmp_path/'m.json').write_text(text)
    with pytest.raises(InputError, match='m.json'): read_metrics(tmp_path/'m.json')

def test_a_model_of_the_first_form(model):
    "What opens it is said."
    folder, built = model
    config = json.loads((folder/'config.json').read_text())
    (folder/'config.json').write_text(json.dumps(config | dict(format='nlbs-cvae 1')))
    refused(folder, 'config.json', "'nlbs-cvae 1'", 'nlbs-cvae 0.1 opens it', "'nlbs-cvae 2'")
    assert not built
