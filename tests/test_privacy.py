"Nothing in a run folder says who a woman is or where her images came from: neither text, notebook, picture nor checkpoint."
import re, zlib

import pandas as pd, pytest
from pydicom import dcmread

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
    "What is in a file, with the compressed streams of PDF and PNG opened."
    data = path.read_bytes()
    streams = re.findall(rb'stream\r?\n(.*?)\r?\nendstream', data, re.DOTALL) if path.suffix == '.pdf' else []
    return data + b'\n'.join(inflate(s) for s in streams)

def inflate(data):
    "A stream, opened where it is compressed."
    try: return zlib.decompress(data)
    except zlib.error: return data

def leaks(
    folder,  # to look through
    secrets, # bytes that must not appear
)->dict:     # {file: what was found}
    "Files in which a secret stands."
    files = {p: contents(p).replace(b'\\\\', b'/').replace(b'\\', b'/') for p in folder.rglob('*') if p.is_file()}
    return {str(p.relative_to(folder)): found for p, data in files.items() if (found := [s for s in secrets if s in data])}

def test_run_folder(tiny_run, archive):
    words = secrets(archive)
    assert len(words) > 40, 'the phantom archive has ids and paths to look for'
    assert not leaks(tiny_run, words)

def test_only_the_settings_know_the_archive(tiny_run, archive):
    found = leaks(tiny_run, {str(archive).encode()})
    assert set(found) <= {'settings.yaml', 'train.ipynb', 'train.001.ipynb', 'evaluate.ipynb'}

def test_a_leak_would_be_seen(archive, tmp_path):
    words = sorted(secrets(archive))
    (tmp_path/'a.json').write_bytes(b'{"path": "' + words[0].replace(b'/', b'\\\\') + b'"}')
    (tmp_path/'b.pdf').write_bytes(b'stream\n' + zlib.compress(b'of ' + words[-1]) + b'\nendstream')
    (tmp_path/'c.txt').write_bytes(b'row 17')
    assert set(leaks(tmp_path, set(words))) == {'a.json', 'b.pdf'}

def test_prepared_images(tiny_run, archive):
    "The cache travels to clusters: outside of its private folder it holds row numbers alone."
    cache, = [p.parent for p in archive.parent.glob('*cache*/cache.json')]
    assert not {k: v for k, v in leaks(cache, secrets(archive)).items() if not k.startswith('private/')}
