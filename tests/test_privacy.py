"Nothing in a run folder says who a woman is or where her images came from: neither text, notebook, picture nor checkpoint, nor a failure."
import base64, gzip, io, json, os, re, shutil, signal, socket, subprocess, sys, time, zipfile, zlib
from importlib.resources import files
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from nlbs_cvae import cache, finish, training
from nlbs_cvae.core import InputError, kept_error
from nlbs_cvae.figures import new_figure, save_png
from nlbs_cvae.run import RunFolder
from nlbs_cvae.settings import load_settings, places_of
from nlbs_cvae.dataset import get_data, get_dls
from nlbs_cvae.training import train
from matplotlib import get_configdir
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import dcmread
from project import ROOT
from safetensors.torch import save

def secrets(
    archive, # an image archive
)->set:      # bytes that must not appear
    "What identifies: paths of the images, their parts that hold digits, ids in the headers."
    table = pd.read_csv(next(archive.glob('*.csv')), dtype=str)
    paths = [p.strip('\\/').replace('\\', '/') for p in table['File Path']]
    parts = {part for p in paths for part in p.split('/')[1:] if sum(map(str.isdigit, part)) >= 4}
    heads = [dcmread(f, stop_before_pixels=True) for f in archive.rglob('*.dcm')]
    ids = {str(ds.get(k, '')) for ds in heads for k in ('PatientID', 'PatientName', 'StudyInstanceUID', 'SeriesInstanceUID', 'SOPInstanceUID')}
    return {o.encode() for o in {*paths, *parts, *ids} if len(o) >= 6}

def contents(
    path, # a file
)->bytes:
    "What is in a file, its name too, and in whatever is packed in it."
    return b'\n'.join([path.name.encode(), *opened(path.read_bytes())])

def opened(
    data, # of a file, or of a part of one
)->list:  # of bytes
    "The data and what is packed in it: streams and texts of a PDF, texts of a PNG, pictures of a notebook, members of an archive (npz, pth, xlsx, whl)."
    parts = []
    if data.startswith(b'%PDF'):
        streams = [inflate(o) for o in re.findall(rb'stream\r?\n(.*?)\r?\nendstream', data, re.DOTALL)]
        parts = streams + [b''.join(re.findall(rb'\(((?:\\.|[^\\)])*)\)', line)) for o in streams for line in re.findall(rb'\[((?:\((?:\\.|[^\\)])*\)|[^\[\]()])*)\]\s*TJ', o)] # letters, with the gaps between them
    elif data.startswith(b'\x89PNG'): parts = [f'{k} {v}'.encode() for k, v in Image.open(io.BytesIO(data)).text.items()]
    elif data.startswith(b'\x1f\x8b'): parts = opened(gzip.decompress(data))
    elif data.startswith(b'PK\3\4'):
        with zipfile.ZipFile(io.BytesIO(data)) as z: parts = [o for name in z.namelist() for o in (name.encode(), *opened(z.read(name)))]
    else: parts = [o for text in re.findall(rb'"(?:image/png|application/pdf)": "([^"]+)"', data.replace(rb'\n', b'')) for o in opened(base64.b64decode(text))]
    return [data, *parts]

def inflate(data):
    "A stream, opened where it is compressed."
    try: return zlib.decompress(data)
    except zlib.error: return data

def is_private(path, folder): return path.relative_to(folder).parts[0] == 'private' and (folder/'settings.yaml').exists()

def leaks(
    folder,  # to look through
    secrets, # bytes that must not appear
)->dict:     # {file: what was found}
    "Files in which a secret stands."
    files = {p: contents(p).replace(b'\\\\', b'/').replace(b'\\', b'/') for p in folder.rglob('*') if p.is_file() and not is_private(p, folder)}
    return {str(p.relative_to(folder)): found for p, data in files.items() if (found := [s for s in secrets if s in data])}

def test_run_folder(tiny_run, archive):
    words = secrets(archive)
    assert len(words) > 40, 'the phantom archive has ids and paths to look for'
    assert not leaks(tiny_run, words)

def test_only_private_knows_places_and_machine(tiny_run, archive):
    words = {str(o).encode() for o in (archive, archive.parent.parent, ROOT, Path.home()) if len(str(o)) > 7}
    if not socket.gethostname().isalpha(): words.add(socket.gethostname().encode())
    assert not leaks(tiny_run, words)
    assert str(archive) in (tiny_run/'private'/'places.yaml').read_text()

def test_real_images_lie_apart(tiny_run):
    "A gallery shows no real woman, nor a reconstruction of one, and says what it shows; TensorBoard and notebooks neither."
    sheets = {p.relative_to(tiny_run/'galleries'): Image.open(p).text['Comment'] for p in (tiny_run/'galleries').rglob('*.png') if 'samples' not in p.parts}
    real = {p for p in sheets if p.stem in ('originals', 'reconstructions', 'findings')}
    assert len(real) > 3 and all(p.parts[0] == 'private' for p in real)
    assert all(('synthetic' in text) == (p not in real) and ('private' in text) == (p in real) for p, text in sheets.items()), sheets
    events = b''.join(p.read_bytes() for p in (tiny_run/'logs'/'tensorboard').iterdir())
    assert b'samples' in events and b'originals' not in events and b'reconstructions' not in events
    for name in ('train', 'evaluate'):
        cells = json.loads((tiny_run/f'{name}.ipynb').read_text())['cells']
        shown = [c['source'] for c in cells if any('image/png' in o.get('data', {}) for o in c.get('outputs', []))]
        assert shown and not [o for o in shown if 'show_batch' in ''.join(o) or 'real test images' in ''.join(o)]

def test_a_leak_would_be_seen(archive, tmp_path):
    words = sorted(secrets(archive))
    (tmp_path/'a.json').write_bytes(b'{"path": "' + words[0].replace(b'/', b'\\\\') + b'"}')
    (tmp_path/'b.pdf').write_bytes(b'%PDF-1.4\nstream\n' + zlib.compress(b'of ' + words[-1]) + b'\nendstream')
    (tmp_path/'c.txt').write_bytes(b'row 17')
    assert set(leaks(tmp_path, set(words))) == {'a.json', 'b.pdf'}

def figure(kind, text, **kwargs):
    "The bytes of a figure that says something."
    fig, out = new_figure(figsize=(4, 1))[0], io.BytesIO()
    fig.text(.1, .5, text)
    fig.savefig(out, format=kind, **kwargs)
    return out.getvalue()

@pytest.mark.parametrize('name, hide', {
    'a.pdf': lambda s: figure('pdf', f'of {s}'), 'b.pdf': lambda s: figure('pdf', 'x', metadata=dict(Title=f'of {s}')),
    'a.png': lambda s: png(lambda about: about.add_text('k', s, zip=True)), 'b.png': lambda s: png(lambda about: about.add_itxt('k', s, zip=True)),
    'a.ipynb': lambda s: json.dumps({'image/png': base64.encodebytes(png(lambda about: about.add_text('k', s, zip=True))).decode()}).encode(),
    'a.npz': lambda s: packed(np.savez_compressed, a=np.array([s]*9).astype('S')), 'b.npz': lambda s: packed(np.savez_compressed, **{s: np.ones(3)}),
    'a.safetensors': lambda s: save({'a': torch.ones(1)}, {'of': s}), 'a.pth': lambda s: packed(lambda f, o: torch.save(o, f), {'of': s}), 'a.csv.gz': lambda s: gzip.compress(f'a\n{s}'.encode()),
    '109430185503.txt': lambda s: b'', 'events.1': lambda s: b'\n\x05' + s.encode()}.items())
def test_it_would_be_seen_wherever_it_hides(tmp_path, name, hide):
    (tmp_path/name).write_bytes(hide('109430185503'))
    assert leaks(tmp_path, {b'109430185503'}) and not leaks(tmp_path, {b'109430185504'})

def png(add):
    about, out = PngInfo(), io.BytesIO()
    add(about)
    Image.new('L', (4, 4)).save(out, 'PNG', pnginfo=about)
    return out.getvalue()

def packed(write, *args, **kwargs):
    out = io.BytesIO()
    write(out, *args, **kwargs)
    return out.getvalue()

def test_prepared_images(tiny_run, archive):
    "The cache travels to clusters: outside of its private folder it holds row numbers alone."
    cache, = [p.parent for p in archive.parent.glob('*cache*/cache.json')]
    assert not {k: v for k, v in leaks(cache, secrets(archive)).items() if not k.startswith('private/')}

# ---- runs that fail -----------------------------------------------------------------------------------------------

ID, USER, HOST = '109430185503', 'janeroe', 'mammo-7.clinic'

@pytest.fixture
def clinic(tmp_path, monkeypatch):
    "An archive of pictures whose folders are women's ids, in a home folder on a machine with a name; the words that nobody may keep."
    monkeypatch.setattr(socket, 'gethostname', lambda: HOST)
    archive, noise = tmp_path/'home'/USER/'my archive', np.random.default_rng(0)
    y, x = np.mgrid[-1:1:96j, 0:1:64j]
    rows = [dict(path=f'{int(ID) + k//2}/{side}.png', subject=f'{int(ID) + k//2}', laterality=side, view='CC', age=60) for k, side in enumerate('LR'*24)]
    for row in rows:
        image = (noise.integers(80, 220, (96, 64))*(x**2 + y**2 < .7)).astype(np.uint8)
        save_png(archive/row['path'], image if row['laterality'] == 'L' else image[:, ::-1].copy())
    pd.DataFrame(rows).to_csv(archive/'table.csv', index=False)
    return archive

def settings_of(archive, *more):
    return load_settings('quick_config', [f'data.archive={archive}', f'data.table={archive}/table.csv', 'data.mapping=folder', 'data.phantom=0',
                                          f'output.results={archive.parent}/results', 'data.num_workers=0', *more])

def many_faults(archive, monkeypatch):
    for p in [*archive.rglob('*.png')][::2]: p.write_bytes(p.read_bytes()[:90])
def missing_files(archive, monkeypatch):
    for p in [*archive.rglob('*.png')][::2]: p.unlink()
def bad_value(archive, monkeypatch):
    (archive/'table.csv').write_text((archive/'table.csv').read_text().replace(',60', f',{USER} {ID}', 7))
def cut_row(archive, monkeypatch):
    with (archive/'table.csv').open('a') as f: f.write(f'"{ID}/L.png,{USER}\n')
def no_table(archive, monkeypatch): (archive/'table.csv').unlink()
def no_archive(archive, monkeypatch): shutil.rmtree(archive)
def leakage(archive, monkeypatch):
    monkeypatch.setattr(finish, 'split_subjects', lambda table, *args: pd.Series(np.resize(['train', 'valid'], len(table)), table.index))
def reader_crashes(archive, monkeypatch):
    def crash(*args): raise KeyError(f'{archive}/{ID}/L.png of {USER} on {HOST}')
    monkeypatch.setattr(cache, 'read_table', crash)
def step_crashes(archive, monkeypatch):
    def crash(*args): raise RuntimeError(f'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback:\n File "{archive}/{ID}/L.png"')
    monkeypatch.setattr(training.Status, 'after_batch', crash)
def other_disk(archive, monkeypatch): # a place that no setting names
    def crash(*args): raise OSError(5, f'Input/output error of {HOST}', f'/srv/{USER}/{ID}/L.png')
    monkeypatch.setattr(training.Status, 'after_batch', crash)
def full_disk(archive, monkeypatch):
    def crash(*args): raise OSError(28, 'No space left on device', f'{archive.parent}/results/run/checkpoints/new.pth')
    monkeypatch.setattr(training.Status, 'after_batch', crash)

WAYS = dict(many_faults="can't be used.* truncated; for example row [0-9]+", missing_files='missing; for example row [0-9]+', bad_value='the table, row 1: age',
            cut_row="the table, line [0-9]+: not a table", no_table="no such file", no_archive='no such folder', leakage='more than one split.*rows', reader_crashes='KeyError', step_crashes='feeds images died', full_disk='No space left',
            other_disk="Input/output error of this machine: 'L.png'")

@pytest.mark.parametrize('way', [many_faults, missing_files, bad_value, cut_row, no_table, no_archive, leakage, reader_crashes, step_crashes, other_disk, full_disk], ids=lambda o: o.__name__)
def test_a_run_that_fails(clinic, monkeypatch, way):
    way(clinic, monkeypatch)
    with pytest.raises((InputError, OSError)): train(settings_of(clinic), 'run')
    folder = RunFolder(clinic.parent/'results'/'run')
    status = folder.read_status()
    assert status['state'] == 'failed' and re.search(WAYS[way.__name__], status['error']), status
    assert not leaks(folder.path, {ID[:8].encode(), USER.encode(), HOST.encode(), str(clinic).encode(), b'my archive/'})

def test_a_notebook_that_fails_twice(clinic):
    "papermill keeps the name of an error, its traceback and what went to stderr, in each attempt: the terminal alone has it in full."
    many_faults(clinic, None)
    overrides = [f'data.archive={clinic}', 'data.mapping=folder', 'data.phantom=0', f'output.results={clinic.parent}/results', 'data.num_workers=0']
    named = ['unshare', '--uts', 'sh', '-c', f'hostname {HOST} && exec "$@"', 'sh'] # a machine of this name, where one may be made
    if os.geteuid() or subprocess.run([*named, 'true'], capture_output=True).returncode: named = []
    cmd = [*named, sys.executable, ROOT/'tools'/'notebook.py', '05_train', 'run', 'quick_config', *overrides]
    for _ in range(2):
        done = subprocess.run(cmd, cwd=clinic.parent, capture_output=True, text=True, env={**os.environ, 'USER': USER, 'LOGNAME': USER})
        assert done.returncode == 1 and f'{ID[:8]}' in done.stderr and "can't be used" in done.stderr, done.stderr[-2000:]
    folder = clinic.parent/'results'/'run'
    kept = (folder/'train.001.ipynb').read_text()
    assert "can't be used" in kept and (folder/'train.ipynb').exists()
    assert not leaks(folder, {ID[:8].encode(), USER.encode(), HOST.encode(), str(clinic).encode(), str(ROOT).encode()})
    assert (folder/'private'/'host').read_text().strip() == (HOST if named else os.uname().nodename), 'the name is known, and kept apart'
    assert ID[:8] in (folder/'private'/'errors.txt').read_text()

def test_a_notebook_that_is_killed(clinic, monkeypatch):
    "What it leaves names no place, whatever the letters of it, given from the root or from here; nor does it after the next attempt."
    archive, results = clinic.rename(clinic.with_name('étude "A"')), Path('scratch', USER) # as clusters have it
    overrides = [f'data.archive=home/{USER}/{archive.name}', 'data.mapping=folder', 'data.phantom=0', f'output.results={clinic.parent/results}', 'data.num_workers=0', 'training.num_epochs=1000']
    cmd, place = [sys.executable, ROOT/'tools'/'notebook.py', '05_train', 'run', 'quick_config', *overrides], clinic.parent.parent.parent
    folder, words = RunFolder(clinic.parent/results/'run'), {ID[:8].encode(), USER.encode(), str(clinic.parent).encode(), archive.name.encode()}
    before = 0
    for attempt in range(2):
        proc = subprocess.Popen(cmd, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, 'HOME': str(clinic.parent), 'MPLCONFIGDIR': get_configdir()})
        while (status := folder.read_status()).get('phase') != 'autoencoder' or status['process'] == before:
            assert proc.poll() is None, 'it ended by itself'
            time.sleep(.2)
        before = status['process'] # the kernel's
        for pid in (proc.pid, before): os.kill(pid, signal.SIGKILL)
        proc.wait()
        assert not leaks(folder.path, words)
    assert (folder.path/'train.001.ipynb').exists()

def test_a_run_that_lives(clinic, monkeypatch):
    "What lies in its folder while it trains, its lock too, is clean."
    folder, seen, real = clinic.parent/'results'/'run', [], training.Status.after_batch
    def look(self):
        if not seen: seen.append(((folder/'lock.json').exists(), leaks(folder, {ID[:8].encode(), USER.encode(), HOST.encode(), str(clinic).encode(), b'my archive/'})))
        return real(self)
    monkeypatch.setattr(training.Status, 'after_batch', look)
    train(settings_of(clinic, 'training.num_epochs=1', 'training.prior_epochs=0'), 'run')
    assert seen == [(True, {})]

def test_a_run_is_the_users_alone(tiny_run):
    "Whatever the umask: TensorBoard's files, notebooks, pictures and model too."
    open_ones = {str(p.relative_to(tiny_run)): oct(p.stat().st_mode & 0o777) for p in [tiny_run, *tiny_run.rglob('*')] if p.stat().st_mode & 0o077}
    assert not open_ones and list(tiny_run.glob('logs/tensorboard/*'))

def test_the_log_says_what_is_read(tiny_run):
    line, = {l.split('data: ')[1] for l in (tiny_run/'logs'/'training.log').read_text().splitlines() if ' data: ' in l}
    assert re.match(r'table NLBSP-metadata.csv \(\w{8}\); mapping nlbs \(\w{8}\); \d+ files \(\w{8}\); cache \w{12}', line) and '/' not in line

# ---- what is kept says what is wrong --------------------------------------------------------------------------------

def rewritten(archive, change):
    "The archive's table, changed; a woman's id and a user's name stand in its row or file."
    (archive/'table.csv').write_text(change((archive/'table.csv').read_text()))

def mapped(archive, text):
    "A mapping of one's own, in a file that is called after its author."
    (archive.parent/f'{USER}.yaml').write_text((files('nlbs_cvae')/'configs'/'mappings'/'folder.yaml').read_text() + text)
    return [f'data.mapping={archive.parent}/{USER}.yaml']

def spoilt(archive):
    for p in archive.rglob('*.png'): p.write_bytes(b'')
    return ['data.max_faults=1']

def few_women(archive):
    rewritten(archive, lambda t: ''.join(t.splitlines(True)[:3]))
    return ['data.max_faults=1']

def beside(archive, name, text=None):
    path = archive.parent/name
    path.mkdir() if text is None else path.write_text(text)
    if text is None: (path/f'{ID}.txt').write_text('x')
    return [f'data.cache={path}']

first = lambda old, new: lambda t: t.replace(old, new, 1)
KEPT = {
    'no such table': (lambda a: [f'data.table={a}/{USER}.csv'], 'table .setting data.table.: no such file'),
    'no usual table': (lambda a: (a/'table.csv').unlink() or ['data.mapping=nlbs', 'data.table='], 'no table NLBSP-metadata.csv .*data.table'),
    'no such folder': (lambda a: shutil.rmtree(a), 'no such folder; give the archive'),
    'no such mapping': (lambda a: [f'data.mapping={a}/none.yaml'], "no mapping 'none.yaml': give a YAML file, or one of"),
    'a key that no mapping has': (lambda a: mapped(a, 'colums: {}'), "no key 'colums'; there are .*columns"),
    'a mapping that is no YAML': (lambda a: mapped(a, 'x: ['), 'not valid YAML'),
    'a key twice': (lambda a: mapped(a, 'conditions: {age: years}'), "the key 'conditions' stands there twice"),
    'of the wrong kind': (lambda a: mapped(a, f'keep: {{subject: {ID}}}'), 'keep.subject is of the wrong kind: a str'),
    'a pattern': (lambda a: mapped(a, "lines: '('"), r"pattern '\(': missing \)"),
    'a column that is not there': (lambda a: rewritten(a, first('path,', f'{USER} {ID},')), r"the table: no column .*'path'.*\(for path\).*columns.path"),
    'a field too few': (lambda a: rewritten(a, first('age', 'age,Age')), "the table, row 1 .line 2.: 5 fields where the header has 6: one is missing"),
    'one column twice': (lambda a: rewritten(a, lambda t: t.replace('path,', 'path,age,', 1).replace('.png,', '.png,60,')), "the table: columns 'age' and 'age' both answer age"),
    'a value': (lambda a: rewritten(a, first(',60', f',{USER} {ID}')), 'the table, row 1: age: what the table says is not .*missing.age of the mapping'),
    'a field too many': (lambda a: rewritten(a, first(',60', f',60,{ID}')), 'the table, row 1 .line 2.: 6 fields where the header has 5: a decimal comma'),
    'a quote': (lambda a: rewritten(a, lambda t: t + f'"{ID}/L.png,{USER}\n'), 'the table, line [0-9]+: not a table .*a quote that isn.t closed'),
    'a spreadsheet': (lambda a: rewritten(a, lambda t: 'PK' + t), 'the table: this is a spreadsheet; save it as CSV'),
    'no text': (lambda a: rewritten(a, first('path', 'pa\0th')), 'the table: this is no text file'),
    'an empty table': (lambda a: rewritten(a, lambda t: ' \n'), 'the table is empty'),
    'a header alone': (lambda a: rewritten(a, lambda t: t.splitlines()[0]), 'the table has no rows'),
    'no woman': (lambda a: rewritten(a, first(f'.png,{ID}', '.png,NA')), 'the table, row 1: no subject .what stands there is no id.; without it'),
    'a rounded id': (lambda a: rewritten(a, first(f'.png,{ID}', '.png,1.0943E+11')), 'the table, row 1: subject of that row is an id that a spreadsheet has rounded.*save its column as text'),
    'no path': (lambda a: rewritten(a, first(f'{ID}/L.png', '')), 'the table, row 1: no path'),
    'a path that leaves': (lambda a: rewritten(a, first(f'{ID}/', f'../{ID}/')), 'the table, row 1: its path leaves the archive'),
    'nothing is kept': (lambda a: mapped(a, f'keep: {{subject: [{USER}]}}'), 'no row has subject in the values named'),
    'no DICOM': (lambda a: ['data.mapping=headers', 'data.table='], 'the archive: no DICOM files in this folder'),
    'no image': (spoilt, 'no image is left; see private/quarantine.csv of the cache'),
    'too few women': (few_women, "the cache: 1 women are too few: '(train|valid)' has no image"),
    'another cache': (lambda a: get_data(settings_of(a)) and rewritten(a, first(',60', ',61')),
                      'changed since this cache was made: table table.csv says something else. Renew it'),
    'a cache that is a file': (lambda a: beside(a, 'mine', 'x'), 'mine: a file, not a folder; name another one'),
    'a cache in a full folder': (lambda a: beside(a, 'mine'), 'mine: holds other files and is no cache; name a folder of its own'),
    'a cache in the archive': (lambda a: [f'data.cache={a}/mine'], 'mine: inside the archive, which is only read; name another folder'),
    'nothing': (lambda a: ['data.archive=', f'data.cache={a.parent}/none'], 'no archive: give its folder .setting data.archive.'),
}

@pytest.mark.parametrize('kind', KEPT)
def test_kept_words_say_what_is_wrong(clinic, monkeypatch, kind):
    "Each failure of an archive keeps words of its own, which say what is wrong, and name neither woman nor place."
    monkeypatch.setattr(cache, 'cores', lambda: 1) # no other processes and no report, which take seconds
    for name in ('write_pages', 'page_counts', 'page_odd', 'page_outliers', 'page_intensity', 'page_images'):
        monkeypatch.setattr(finish, name, lambda *args: None)
    spoil, word = KEPT[kind]
    s = settings_of(clinic, *(spoil(clinic) or []))
    with pytest.raises(InputError) as caught: get_dls(get_data(s), 2)
    kept = str(kept_error(caught.value, places_of(s)))
    assert re.search(word, kept) and 'the terminal says why' not in kept, kept
    assert not [o for o in (ID[:8], USER, HOST, str(clinic), str(clinic.parent)) if o in kept], kept
