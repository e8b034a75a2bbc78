"""What a notebook can't hold of the preparation: kills, several processes, and an archive with every known fault."""
import json, multiprocessing, os, re, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np, pandas as pd, pydicom, pytest, torch
from hypothesis import HealthCheck, given, settings, strategies as st

from nlbs_cvae.core import InputError, write_json
from nlbs_cvae.settings import load_settings
from nlbs_cvae.cache import Cache, cache_of, is_complete, nlbs_prepare, origin, prepare_cache
from nlbs_cvae.dataset import get_data, get_dls
from nlbs_cvae.images import REASONS
from nlbs_cvae.metadata import read_table
from nlbs_cvae.phantom_archive import write_phantom
from nlbs_cvae.prepare import Preparation, read_one
from starting import Forked

RESOLUTION = 32

# the console script, and the same slowed down so that it can be met in the middle, noting each file it reads
PLAIN = 'from nlbs_cvae.cache import nlbs_prepare\nnlbs_prepare()\n'
SLOW = '''
import os, sys, time
from nlbs_cvae import cache, prepare
read = prepare.read_image
def slow(path, *args):
    with open(os.environ['READ_LOG'], 'a') as f: f.write(f'{path}\\n')
    time.sleep(float(os.environ['READ_SECONDS']))
    return read(path, *args)
prepare.read_image = slow
cache.nlbs_prepare()
'''


@pytest.fixture(scope='session')
def archive(tmp_path_factory):
    "Twenty-four women, 96 images, nothing wrong with any."
    return write_phantom(tmp_path_factory.mktemp('archive')/'clinic', women=24, size=(96, 80))


@pytest.fixture(scope='session')
def reference(archive, tmp_path_factory):
    "The cache of that archive, prepared in one go."
    return prepare_cache(archive, cache=tmp_path_factory.mktemp('reference')/'cache', resolution=RESOLUTION)


def script(folder, text):
    "A script of that text, as the beginning of a command line."
    file = folder/f'{abs(hash(text))}.py'
    file.write_text(text)
    return [file]


def start(archive, cache, log, *args, seconds=.02):
    "A preparation in a process of its own."
    env = {**os.environ, 'READ_LOG': str(log), 'READ_SECONDS': str(seconds), 'OMP_NUM_THREADS': '1'}
    out, err = (tempfile.mkstemp(dir=log.parent)[1] for _ in range(2))
    return Forked([*script(log.parent, SLOW), archive, '--cache', cache, '--resolution', RESOLUTION, '--workers', 2, *args], env=env, out=out, err=err)


def ended(process):
    "Its output; fails the test where it failed."
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def reads(log): return log.read_text().splitlines() if log.exists() else []
def marks(cache): return {p.name: p.stat().st_mtime_ns for p in cache.glob('private/work-*/*.json')}


def wait_for(condition, seconds=60):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, 'waited in vain'
        time.sleep(.02)


def same(a, b):
    "Two caches that hold the same."
    return (np.array_equal(a.images, b.images) and a.table.equals(b.table) and np.array_equal(a.codes, b.codes)
            and a.fingerprint == b.fingerprint)


def snapshot(folder): return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(Path(folder).rglob('*'))}


# --- kills -------------------------------------------------------------------------------------------------------------

def test_killed_in_the_middle_goes_on(archive, reference, tmp_path):
    cache, log = tmp_path/'cache', tmp_path/'log'
    done = {}
    for _ in range(2): # killed twice, each time after one more chunk
        process = start(archive, cache, log)
        wait_for(lambda: len(marks(cache)) > len(done) or process.poll() is not None)
        process.kill()
        process.wait()
        assert not is_complete(cache)
        with pytest.raises(InputError, match='no finished cache'): Cache(cache)
        assert all(marks(cache)[k] == t for k, t in done.items()), 'what was done was done again'
        done = marks(cache)
    n = len(reads(log))
    time.sleep(1)
    assert len(reads(log)) <= n + 2, 'workers live on after their parent'
    ended(start(archive, cache, log, seconds=0))
    assert same(Cache(cache), reference)
    assert not list(cache.glob('private/work-*')) and not list(cache.glob('private/*.claim'))


def test_killed_while_finishing(archive, reference, tmp_path):
    "All chunks are there, the process died while it wrote the cache."
    cache, log = tmp_path/'cache', tmp_path/'log'
    dies = SLOW.replace('cache.nlbs_prepare()', 'import signal\nfrom nlbs_cvae import finish\nfinish.write_pages = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\ncache.nlbs_prepare()')
    process = subprocess.run([sys.executable, *script(tmp_path, dies), str(archive), '--cache', str(cache), '--resolution', str(RESOLUTION)],
                             env={**os.environ, 'READ_LOG': str(log), 'READ_SECONDS': '0'}, capture_output=True)
    assert process.returncode == -signal.SIGKILL and (cache/'images.npy').exists() and not is_complete(cache)
    n = len(reads(log))
    ended(start(archive, cache, log))
    assert len(reads(log)) == n, 'files were read again'
    assert same(Cache(cache), reference)


# --- several processes -------------------------------------------------------------------------------------------------

def test_two_at_once(archive, reference, tmp_path):
    cache, log = tmp_path/'cache', tmp_path/'log'
    both = [start(archive, cache, log), start(archive, cache, log)]
    for process in both: ended(process)
    assert same(Cache(cache), reference)
    assert len(reads(log)) == len(set(reads(log))), 'a file was read twice'
    assert not list(cache.glob('private/work-*'))


def test_shards_of_different_jobs(archive, reference, tmp_path):
    cache, log = tmp_path/'cache', tmp_path/'log'
    for shard in ('3/3', '1/3'):
        assert f'shard {shard} is done' in ended(start(archive, cache, log, '--shard', shard, seconds=0))
        assert not is_complete(cache)
    assert 'of 24 women' in ended(start(archive, cache, log, '--shard', '2/3', seconds=0))
    assert same(Cache(cache), reference)
    assert len(reads(log)) == len(set(reads(log))) == len(reference)


def test_a_dead_process_on_another_host(archive, reference, tmp_path):
    "Its claim is taken over when it was silent for long, and not before."
    cache, log = tmp_path/'cache', tmp_path/'log'
    ended(start(archive, cache, log, '--shard', '1/2', seconds=0))
    claim = next(cache.glob('private/work-*'))/'000001.claim'
    claim.write_text(json.dumps(dict(machine='elsewhere', process=1, job='7', at=16)))
    process = start(archive, cache, log, seconds=0)
    wait_for(lambda: '000002.json' in marks(cache))
    time.sleep(1)
    assert process.poll() is None, 'a living claim was ignored'
    os.utime(claim, (0, 0))
    ended(process)
    assert same(Cache(cache), reference)


# --- faults and findings -----------------------------------------------------------------------------------------------

def test_too_many_faults_fail_and_lose_nothing(archive, tmp_path):
    "Worst reasons first; what is prepared is not prepared again when more is allowed."
    broken, cache, log = tmp_path/'broken', tmp_path/'cache', tmp_path/'log'
    shutil.copytree(archive, broken)
    files = [broken/p for p in read_table('', 'nlbs', broken).path]
    for f in files[2:10]: f.write_bytes(f.read_bytes()[:3000])
    for f in files[30:33]: f.unlink()
    process = start(broken, cache, log, seconds=0)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and len(err.strip().splitlines()) == 1, err
    assert re.search(r"images can't be used \(so far\), .*%, allowed are 5.0%: 8 truncated, 3 missing; for example row 3", err), err
    assert not is_complete(cache) and len(pd.read_csv(cache/'private'/'quarantine.csv')) == 11
    kept = marks(cache)
    assert kept
    ended(start(broken, cache, log, '--max_faults', '0.2', seconds=0))
    assert len(Cache(cache)) == len(files) - 11
    assert len(reads(log)) == len(set(reads(log))), 'a file was read twice'


def test_a_wrong_archive_is_noticed_before_any_work(archive, tmp_path):
    "Most files missing: no file is read."
    elsewhere, log = tmp_path/'elsewhere', tmp_path/'log'
    elsewhere.mkdir()
    shutil.copy(archive/'NLBSP-metadata.csv', elsewhere)
    process = start(elsewhere, tmp_path/'cache', log)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and '96 missing' in err and not reads(log)


@pytest.mark.parametrize('wrong, word', [
    (dict(archive='nowhere'), 'no such folder'), (dict(table='none.csv'), 'none.csv'), (dict(table='empty.csv'), 'empty'),
    (dict(table='header.csv'), 'no rows'), (dict(table='columns.csv'), 'no column'), (dict(mapping='nobody'), 'nobody'),
    (dict(resolution='huge'), 'huge'), (dict(shard='9/8'), '3/8'), (dict(config='nothing'), 'nothing')])
def test_bad_requests_write_nothing(archive, tmp_path, wrong, word):
    (tmp_path/'empty.csv').write_text('')
    head = (archive/'NLBSP-metadata.csv').read_text().splitlines()[0]
    (tmp_path/'header.csv').write_text(head + '\n')
    (tmp_path/'columns.csv').write_text('File Path,Age\na,60\n')
    args = dict(archive=archive, cache=tmp_path/'cache', **{k: str(tmp_path/v) if k in ('archive', 'table') else v for k, v in wrong.items()}) \
        if 'archive' not in wrong else dict(archive=tmp_path/'nowhere', cache=tmp_path/'cache')
    with pytest.raises(InputError, match=word) as e: nlbs_prepare(**{k: str(v) for k, v in args.items()})
    assert '\n' not in str(e.value)
    assert not (tmp_path/'cache').exists()


def test_help(tmp_path):
    run = subprocess.run([sys.executable, *script(tmp_path, PLAIN), '--help'], capture_output=True, text=True)
    for word in ('pixels', 'Examples', '--shard', '--max_faults', '0 to 1'): assert word in run.stdout


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_never_stop_it(archive, tmp_path, data):
    "Random bytes, cut files, and bytes changed anywhere: images or a reason, never an exception."
    good = min(archive.rglob('*.dcm')).read_bytes()
    kind = data.draw(st.sampled_from(['noise', 'cut', 'changed']))
    if kind == 'noise': content = data.draw(st.binary(max_size=2000))
    elif kind == 'cut': content = good[:data.draw(st.integers(0, len(good)))]
    else:
        content = bytearray(good)
        for at, byte in data.draw(st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=20)): content[at] = byte
    (tmp_path/'damaged').write_bytes(bytes(content))
    images, record = read_one(tmp_path/'damaged', 'L', Preparation((16, 16)))
    assert (len(images) == 1 and not record['fault']) or (len(images) == 0 and record['fault'] in REASONS and record['detail'])


def test_planted_archive(tmp_path):
    "Every planted fault is set aside, every planted finding reported and kept, and nothing else."
    archive = write_phantom(tmp_path/'planted', women=14, size=(128, 100), faults=True)
    before = snapshot(archive)
    cache = prepare_cache(archive, cache=tmp_path/'cache', resolution=RESOLUTION, max_faults=.2)
    assert snapshot(archive) == before
    planted = pd.read_csv(archive/'planted.csv')
    faults, findings = (pd.read_csv(cache.path/'private'/f'{name}.csv') for name in ('quarantine', 'findings'))
    def pairs(rows, kinds): return sorted(zip(rows, kinds))
    assert pairs(faults.row, faults.reason) == pairs(*planted[planted.kind == 'fault'][['row', 'what']].to_numpy().T)
    assert set(pairs(findings.row, findings.kind)) == set(pairs(*planted[planted.kind == 'finding'][['row', 'what']].to_numpy().T))
    sources = pd.read_csv(cache.path/'private'/'sources.csv')
    listed = set(read_table('', 'nlbs', archive).row)
    assert sorted(sources.source_row) == sorted(listed - set(faults.row)), 'an image was lost, or a faulty one kept'
    assert set(findings.row) - set(faults.row) <= set(sources.source_row)
    assert (cache.images[:].reshape(len(cache), -1).max(1) > 0).all(), 'a black image'
    assert cache.table.groupby('subject').split.nunique().max() == 1


def test_the_proportions_of_nlbs_pass(tmp_path):
    "One file in two hundred missing, one cut, one image in nine a repeat of a view: defaults take it."
    archive = write_phantom(tmp_path/'nlbs', women=60, size=(64, 64))
    table = pd.read_csv(archive/'NLBSP-metadata.csv')
    (archive/read_table('', 'nlbs', archive).path[100]).unlink()
    repeats = table.iloc[::9].copy()
    repeats['File Path'] = repeats['File Path'].str.replace('.dcm', '-again.dcm')
    for old, new in zip(read_table('', 'nlbs', archive).path[::9], repeats['File Path']):
        ds = pydicom.dcmread(archive/old)
        ds.PixelData = (ds.pixel_array - (ds.pixel_array > 1800)).tobytes() # another exposure: other pixels
        ds.save_as(archive/new.replace('\\', '/').lstrip('/'))
    pd.concat([table, repeats]).to_csv(archive/'NLBSP-metadata.csv', index=False)
    cache = prepare_cache(archive, cache=tmp_path/'cache', resolution=16)
    assert cache.about['faults'] == {'missing': 1} and cache.about['findings']['repeat of a view'] == len(repeats)
    assert len(cache) == len(table) + len(repeats) - 1


@pytest.mark.timeout(60)
def test_after_opencv_was_used(archive, tmp_path):
    "OpenCV's threads in the parent must not be what a forked worker waits for."
    import cv2
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    cv2.resize(np.random.rand(3000, 3000).astype(np.float32), (500, 500), interpolation=cv2.INTER_AREA)
    assert prepare_cache(archive, cache=tmp_path/'cache', resolution=16, workers=2)
    assert cv2.getNumThreads() == 4
    cv2.setNumThreads(before)


# --- the archive is only read, the cache names nobody -----------------------------------------------------------------

def test_the_archive_is_never_written_to(archive, tmp_path):
    before = snapshot(archive)
    prepare_cache(archive, cache=tmp_path/'cache', resolution=16)
    assert snapshot(archive) == before


def test_what_leaves_names_nobody(archive, reference):
    "Neither ids nor paths of the source in what goes to a cluster; no stray files beside it."
    table = read_table('', 'nlbs', archive)
    text = ''.join((reference.path/name).read_text() for name in ('table.csv', 'cache.json'))
    for secret in {*table.subject, *table.study, *table.path, *(Path(p).name for p in table.path), str(archive), archive.name}:
        assert secret not in text
    assert sorted(p.name for p in reference.path.iterdir() if p.name != '.nlbs-cvae.json') == ['cache.json', 'images.npy', 'private', 'table.csv']
    assert (reference.path/'private'/'report.pdf').read_bytes().startswith(b'%PDF')


def test_splits_stay_when_the_archive_grows(archive, tmp_path):
    lines = (archive/'NLBSP-metadata.csv').read_text().splitlines()
    args = dict(archive=archive, table=tmp_path/'t.csv', cache=tmp_path/'cache', resolution=16)
    def splits(): return pd.read_csv(tmp_path/'cache'/'private'/'splits.csv', dtype=str).set_index('subject').split.to_dict()
    args['table'].write_text('\n'.join(lines[:41])) # ten women
    prepare_cache(**args)
    file = tmp_path/'cache'/'private'/'splits.csv'
    woman, split = next(iter(splits().items()))
    file.write_text(file.read_text().replace(f'{woman},{split}', f'{woman},{"test" if split != "test" else "valid"}')) # not what a hash says
    few = splits()
    args['table'].write_text('\n'.join(lines))
    with pytest.raises(InputError, match='changed since'): prepare_cache(**args)
    assert len(prepare_cache(**args, renew=True)) == len(lines) - 1
    assert len(few) == 10 and len(splits()) == 24 and {k: splits()[k] for k in few} == few
    sources = pd.read_csv(tmp_path/'cache'/'private'/'sources.csv', dtype=str)
    assert sources.set_index('subject').split.to_dict() == splits()
    with pytest.raises(InputError, match='never changes'): prepare_cache(**args, split=(.5, .25, .25), renew=True)


# --- a cache is what decided its content ------------------------------------------------------------------------------

@pytest.fixture
def own(archive, tmp_path):
    "A copy of the archive, and what to ask for: (folder, settings of a run with these overrides)."
    folder = Path(shutil.copytree(archive, tmp_path/'clinic'))
    def asked(*overrides): return load_settings('quick_config', [f'data.archive={folder}', 'data.phantom=0', f'data.resolution={RESOLUTION}', *overrides])
    get_data(asked())
    return folder, asked


def table_of(folder, name, change):
    "The archive's table, changed, under another name."
    text = (folder/'NLBSP-metadata.csv').read_text()
    (folder/name).write_text(change(text))
    return folder/name


def turned(text): return ''.join(l if i == 0 else l[:-4] + ('0' if l[-4] == '1' else '1') + l[-3:] for i, l in enumerate(text.splitlines(keepends=True)))


def refused(settings, *words):
    "The error says what changed, and a command that mends it."
    with pytest.raises(InputError) as e: get_data(settings)
    for word in words: assert word in e.value.full, e.value.full
    assert '\n' not in e.value.full and str(settings.data.archive) not in str(e.value) # what is kept holds no path
    return e.value.full[e.value.full.index('nlbs_prepare'):]


def run_command(folder, line):
    "As the user would paste it."
    import shlex
    words = shlex.split(line)[1:]
    done = subprocess.run([sys.executable, *script(folder.parent, PLAIN), *words], capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr


def test_another_table_is_another_cache(own):
    "Two trainings with two tables: the second doesn't learn the first one's labels, and the images stay as they are."
    folder, asked = own
    first = get_data(asked())
    images, splits = (first.path/'images.npy').stat().st_mtime_ns, first.table.split
    b = table_of(folder, 'b.csv', turned)
    line = refused(asked(f'data.table={b}'), 'table b.csv in place of NLBSP-metadata.csv')
    run_command(folder, line)
    second = get_data(asked(f'data.table={b}'))
    k = second.conditions.index('cancer')
    assert (second.codes[:, k] == 1 - first.codes[:, k]).all() and second.fingerprint != first.fingerprint
    assert (second.path/'images.npy').stat().st_mtime_ns == images and second.table.split.equals(splits)
    refused(asked(), 'table NLBSP-metadata.csv in place of b.csv')
    same = folder/'copy.csv'
    same.write_bytes(b.read_bytes())
    assert get_data(asked(f'data.table={same}')).fingerprint == second.fingerprint # its bytes count, not its name


def test_a_changed_table_mapping_or_setting_is_noticed(own, tmp_path):
    folder, asked = own
    table = folder/'NLBSP-metadata.csv'
    good = table.read_text()
    table.write_text(turned(good))
    refused(asked(), 'table NLBSP-metadata.csv says something else')
    table.write_text(good)
    assert len(get_data(asked()))
    from importlib.resources import files
    mapping = (files('nlbs_cvae')/'configs'/'mappings'/'nlbs.yaml').read_text()
    (tmp_path/'nlbs.yaml').write_text('# the same, under a comment\n' + mapping)
    assert len(get_data(asked(f'data.mapping={tmp_path}/nlbs.yaml'))) # what it says counts
    (tmp_path/'nlbs.yaml').write_text(mapping + '\nfour_views: false\n' if 'four_views' not in mapping else mapping.replace('true', 'false'))
    refused(asked(f'data.mapping={tmp_path}/nlbs.yaml'), 'mapping nlbs says something else', f'--mapping {tmp_path}/nlbs.yaml')
    refused(asked('data.min_foreground=.1'), 'min_foreground=0.02, asked for is 0.1', '--min_foreground 0.1')


def test_an_edited_file_is_noticed_and_a_copy_is_not(own):
    "Times are a hint: other times and the same bytes are the same file; the same size and time with other bytes are not."
    folder, asked = own
    made = get_data(asked())
    for f in folder.rglob('*'): os.utime(f, (1, 1))
    os.utime(folder, (1, 1))
    assert get_data(asked()).fingerprint == made.fingerprint and get_data(asked()).sources == 'its sources are as they were'
    file = max(folder.rglob('*.dcm'))
    before, data = file.stat(), bytearray(file.read_bytes())
    data[len(data)//2] ^= 255
    file.write_bytes(bytes(data))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    refused(asked(), '1 file (row ')
    file.unlink()
    refused(asked(), '1 file (row ')
    shutil.rmtree(folder)
    moved = get_data(asked())
    assert moved.fingerprint == made.fingerprint and 'not here' in moved.sources # a cluster has the cache alone
    assert re.fullmatch(r'table NLBSP-metadata.csv \(\w{8}\); mapping nlbs \(\w{8}\); 96 files \(\w{8}\); cache \w{12} \(.*\)', origin(moved))


def test_new_files_are_noticed_where_files_make_the_table(archive, tmp_path):
    folder = Path(shutil.copytree(archive, tmp_path/'clinic'))
    (folder/'NLBSP-metadata.csv').unlink()
    files = sorted(folder.rglob('*.dcm'))
    late = tmp_path/'late.dcm'
    files[-1].rename(late)
    asked = load_settings('quick_config', [f'data.archive={folder}', 'data.mapping=headers', 'data.phantom=0', f'data.resolution={RESOLUTION}'])
    assert len(get_data(asked)) == 95
    late.rename(files[-1])
    refused(asked, 'there are other files')


def test_a_cache_of_the_earlier_form(own):
    "It is refused with the command that renews it; splits stay."
    folder, asked = own
    made = get_data(asked())
    write_json(made.path/'cache.json', {**made.about, 'version': 1, 'made_from': 'a hash'})
    with pytest.raises(InputError, match='form 1.*form 2.*--renew'): Cache(made.path)
    line = refused(asked(), 'form 1, this is form 2')
    run_command(folder, line)
    assert get_data(asked()).table.split.equals(made.table.split)


def test_patches_are_settings(archive, tmp_path):
    "Patches of a size are never taken for whole images of that size; command, job and notebook ask by the same settings."
    def asked(*overrides): return load_settings('quick_config', [f'data.archive={archive}', 'data.phantom=0', 'data.resolution=64', 'data.max_faults=.5', *overrides])
    names = [cache_of(asked(*o).data).name for o in ([], ['data.patch_size=64'], ['data.patch_size=64', 'data.patch_stride=32'], ['data.patch_size=64', 'data.patch_most=2'])]
    assert len(set(names)) == 4
    cache = f'data.cache={tmp_path}/patches'
    nlbs_prepare(str(archive), patch_size=64, patch_foreground=.3, cache=str(tmp_path/'patches'), max_faults=.5)
    (tmp_path/'s.yaml').write_text(f'data: {{archive: {archive}, resolution: 64, cache: {tmp_path}/patches}}')
    made = get_data(asked('data.patch_size=64', 'data.patch_foreground=.3', cache))
    assert made.about['settings']['patches'] == dict(size=64, stride=64, min_foreground=.3, most=8)
    for other in ([], ['data.patch_size=64'], ['data.patch_size=64', 'data.patch_foreground=.3', 'data.patch_stride=32']): refused(asked(cache, *other), 'made with patches=')
    nlbs_prepare(config=str(tmp_path/'s.yaml'), patch_size=64, patch_foreground=.3) # given beside a settings file: used
    with pytest.raises(InputError, match='made with patches='): nlbs_prepare(config=str(tmp_path/'s.yaml'), patch_size=64)
    with pytest.raises(InputError, match='made with window=0'): nlbs_prepare(config=str(tmp_path/'s.yaml'), patch_size=64, patch_foreground=.3, window=1)


# --- surroundings ------------------------------------------------------------------------------------------------------

NO_LINKS = 'import errno, os\ndef refuse(*args, **kw): raise OSError(errno.EPERM, "Operation not permitted")\nos.link = os.fchmod = os.chmod = refuse\n'

@pytest.mark.parametrize('share', ['', 'group'])
def test_a_disk_without_hard_links_or_rights(archive, reference, tmp_path, share):
    "Two processes at once on it do nothing twice."
    cache, log = tmp_path/'cache', tmp_path/'log'
    env = {**os.environ, 'READ_LOG': str(log), 'READ_SECONDS': '.01', 'OMP_NUM_THREADS': '1'}
    cmd = [sys.executable, *script(tmp_path, NO_LINKS + SLOW), str(archive), '--cache', str(cache), '--resolution', str(RESOLUTION), '--workers', '2', *(['--share', share] if share else [])]
    for p in [subprocess.Popen(cmd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]: ended(p)
    assert same(Cache(cache), reference) and len(reads(log)) == len(set(reads(log)))


@pytest.mark.parametrize('number, word', [('EROFS', '--cache FOLDER'), ('EACCES', '--cache FOLDER'), ('ENOSPC', 'make room'), ('EDQUOT', 'make room')])
def test_what_a_disk_refuses_is_said_with_the_way_out(archive, tmp_path, monkeypatch, number, word):
    import errno
    from nlbs_cvae import prepare
    def full(*args, **kw): raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))
    monkeypatch.setattr(prepare, 'write_json', full)
    with pytest.raises(InputError, match=word) as e: prepare_cache(archive, cache=tmp_path/'cache', resolution=16, workers=1)
    assert '\n' not in str(e.value) and 'goes on' in str(e.value)
    monkeypatch.undo()
    assert prepare_cache(archive, cache=tmp_path/'cache', resolution=16)


def test_a_place_that_cannot_be_written_to(archive, tmp_path, monkeypatch):
    from nlbs_cvae import cache
    monkeypatch.setattr(cache.os, 'access', lambda path, mode: False)
    with pytest.raises(InputError, match="can't be written to; name another folder for the cache .--cache"): prepare_cache(archive, cache=tmp_path/'cache', resolution=16)
    assert not (tmp_path/'cache').exists()


def test_the_cache_is_never_in_the_archive(archive, tmp_path, monkeypatch):
    "By whatever name: '.', links, '..', a private folder that is a link."
    own = Path(shutil.copytree(archive, tmp_path/'own'))
    before = snapshot(own)
    (tmp_path/'link').symlink_to(own)
    (tmp_path/'deep').symlink_to(own/'normal')
    (tmp_path/'cache').mkdir()
    (tmp_path/'cache'/'private').symlink_to(own/'normal')
    for cache in (own/'cache', tmp_path/'link'/'cache', tmp_path/'deep'/'cache', tmp_path/'cache', own, tmp_path/'link'):
        for name in (own, tmp_path/'link'):
            with pytest.raises(InputError, match='inside the archive'): prepare_cache(name, cache=cache, resolution=16)
    with pytest.raises(InputError, match='only read'): load_settings('quick_config', [f'data.archive={tmp_path}/link', f'output.results={own}/runs'])
    assert snapshot(own) == before
    monkeypatch.chdir(own)
    nlbs_prepare('.', resolution='16')
    assert is_complete(tmp_path/'own-cache-16') and snapshot(own) == before


def test_the_users_own_folder_is_no_cache(archive, tmp_path):
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'table.csv').write_text('mine')
    (tmp_path/'file').write_text('mine')
    for place in ('mine', 'file'):
        with pytest.raises(InputError, match='name'): prepare_cache(archive, cache=tmp_path/place, resolution=16)
    assert (tmp_path/'mine'/'table.csv').read_text() == 'mine' and (tmp_path/'file').read_text() == 'mine'


def rights(folder): return {oct(p.stat().st_mode & 0o777) for p in [folder, *folder.rglob('*')] if p.is_dir()}, {oct(p.stat().st_mode & 0o777) for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('mask', [0o022, 0o002, 0o027])
def test_nobody_else_can_read_a_cache(archive, tmp_path, mask):
    was = os.umask(mask)
    try:
        prepare_cache(archive, cache=tmp_path/'new'/'mine', resolution=16)
        prepare_cache(archive, cache=tmp_path/'group', resolution=16, share='group')
        assert rights(tmp_path/'new') == ({'0o700'}, {'0o600'}) and rights(tmp_path/'group') == ({'0o750'}, {'0o640'})
        assert os.umask(mask) == mask # as it was
    finally: os.umask(was)


@pytest.mark.parametrize('text, word', [
    ("derive: {subject: {from: '{id}', pattern: '(a+)+$'}}", r'derive.subject.*\(a\+\)\+'), ("derive: {subject: {from: '{id}', pattern: '(a|aa)*c'}}", 'derive.subject'),
    ("lines: '(a|aa)+$'", 'lines'), ('a: &a [' + ', '.join('x'*9) + ']\n' + ''.join(f'a{i}: &a{i} [{", ".join([f"*a{i - 1 if i else str()}"]*9)}]\n' for i in range(12)), 'aliases'),
    ('rows: table\nrows: files', 'stands there twice')])
def test_mappings_from_strangers_are_bounded(tmp_path, monkeypatch, text, word):
    from nlbs_cvae import core
    monkeypatch.setattr(core.pattern_limit.__wrapped__, '__defaults__', (.3,)) # seconds
    (tmp_path/'t.csv').write_text('file,id\nx.png,' + 'a'*60 + 'b\n')
    base = {} if 'aliases' in word or 'twice' in word else {'columns: {path: file, id: id}': 0, 'conditions: {laterality: [L, R]}': 0, 'header: [laterality]': 0}
    if base and not text.startswith('derive'): base["derive: {subject: {from: '{id}'}}"] = 0
    (tmp_path/'m.yaml').write_text('\n'.join([*base, text]))
    with pytest.raises(InputError, match=word) as e: read_table(tmp_path/'t.csv', tmp_path/'m.yaml', tmp_path)
    assert len(str(e.value)) < 1600


# --- feeding -----------------------------------------------------------------------------------------------------------

def test_workers_outlive_the_signals_that_stop_a_job(reference):
    "SIGTERM reaches the workers first; the step and the checkpoint still need them."
    dls = get_dls(reference, 4, num_workers=2)
    batches = iter(dls.train)
    seen = [next(batches), next(batches)] # both workers are up
    for worker in multiprocessing.active_children():
        for s in (signal.SIGTERM, signal.SIGUSR1): os.kill(worker.pid, s)
    assert len(seen + list(batches)) == len(dls.train) > 4


def test_draws_do_not_depend_on_workers_or_batches(reference):
    "The same rows get the same augmentation, whoever makes them, in whatever batch."
    def images(batch_size, workers):
        dls = get_dls(reference, batch_size, num_workers=workers, seed=3)
        dls.train.epoch = 5
        x, codes, rows = (torch.cat(part) for part in zip(*dls.train))
        return {int(r): (im, c) for im, c, r in zip(x, codes, rows)}
    a, b, c = images(4, 0), images(4, 2), images(6, 3)
    assert a.keys() == b.keys()
    for other in (b, c):
        for row in a.keys() & other.keys(): assert all(torch.equal(p, q) for p, q in zip(a[row], other[row]))


def test_workers_that_crash_cost_one_file(archive, reference, tmp_path, monkeypatch):
    "A decoder that brings its process down: that file is set aside, all others are prepared."
    from nlbs_cvae import prepare
    deadly, read = str(archive/read_table('', 'nlbs', archive).path[5]), prepare.read_image
    def crash(path, *args):
        if str(path) == deadly: os.kill(os.getpid(), signal.SIGKILL)
        return read(path, *args)
    monkeypatch.setattr(prepare, 'read_image', crash) # workers are forked: they have it too
    cache = prepare_cache(archive, cache=tmp_path/'cache', resolution=RESOLUTION, workers=2)
    faults = pd.read_csv(cache.path/'private'/'quarantine.csv')
    assert list(faults.row) == [6] and faults.reason[0] == 'unreadable' and 'killed' in faults.detail[0]
    assert len(cache) == len(reference) - 1
