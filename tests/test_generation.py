"Generation as a process: killed and gone on with, memory that doesn't grow, errors of one line, files that other readers read."
import os, shutil, signal, time

import numpy as np, pytest
from nlbs_cvae.dicom import WRITTEN_VIEWS
from nlbs_cvae.mapping import Mapping, mapping_names
from starting import Forked

RUN = 'from nlbs_cvae.generation import nlbs_generate\nnlbs_generate()\n' # as a console script does

@pytest.fixture(scope='module')
def start(tmp_path_factory):
    "nlbs_generate in a process of its own."
    script = tmp_path_factory.mktemp('bin')/'nlbs_generate'
    script.write_text(RUN)
    def run(*args):
        out, err = (tmp_path_factory.mktemp('said')/o for o in ('out', 'err'))
        return Forked([script, *args], out=out, err=err)
    return run

@pytest.fixture(scope='module')
def call(start):
    "Run it to the end: exit status, stdout, stderr."
    def run(*args):
        p = start(*args)
        out, err = p.communicate(timeout=600)
        return p.returncode, out, err
    return run

def untrained(cancer=(18, 0, 0), exams=False):
    "A model that has learned nothing, small and quick; `cancer` counts its training images without it, with it, unknown."
    from nlbs_cvae.cvae import ConditionalVAE
    from nlbs_cvae.conditions import Condition, Conditions
    from nlbs_cvae.generator import Generator, Prior
    conditions = Conditions([Condition('view', ('CC', 'MLO'), counts=(9, 9, 0)), Condition('laterality', ('L', 'R'), counts=(9, 9, 0)),
                             Condition('cancer', ('0', '1'), counts=cancer)])
    vae = ConditionalVAE(conditions.sizes, (64, 64), 8, channels=8, cond_dim=16)
    return Generator(vae, Prior(conditions.sizes, vae.grid_shape, 8, channels=16, width=32, exams=exams), conditions).eval()

@pytest.fixture(scope='module')
def model(tmp_path_factory):
    "The folder of an untrained model."
    untrained().save(folder := tmp_path_factory.mktemp('model'))
    return folder

@pytest.fixture(scope='module')
def exam_model(tmp_path_factory):
    "The folder of an untrained model of examinations, whose views hear of each other."
    import torch
    gen = untrained((9, 9, 0), exams=True)
    for name, w in gen.prior.named_parameters():
        if w.ndim > 1 and name.startswith(('z_net', 'context')): torch.nn.init.normal_(w, std=.1)
    gen.save(folder := tmp_path_factory.mktemp('exam_model'))
    return folder

def contents(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}

def kill(
    p,   # process
    far, # () to whether it has come far enough
):
    "Let a process die in the middle of its work."
    while p.poll() is None and not far(): time.sleep(.01)
    p.send_signal(signal.SIGKILL)
    p.communicate()
    assert p.returncode == -signal.SIGKILL, 'it was done before it could be killed'

def test_killed_and_gone_on_with(start, call, model, tmp_path):
    ask = ['--n', 60, '--conditions', 'view=MLO,laterality=R', '--steps', 8, '--batch_size', 4, '--formats', 'png,npy,dicom', '--device', 'cpu']
    assert call(model, tmp_path/'whole', *ask)[0] == 0
    for most in (3, 30): # images after which the process dies, twice in the same folder
        p = start(model, tmp_path/'cut', *ask)
        kill(p, lambda: len(list((tmp_path/'cut').glob('[0-9]*.png'))) >= most)
        assert not (tmp_path/'cut'/'manifest.csv').exists()
    assert call(model, tmp_path/'cut', *ask)[0] == 0
    assert contents(tmp_path/'cut') == contents(tmp_path/'whole')

def test_examinations_killed_and_gone_on_with(start, call, exam_model, tmp_path):
    import pydicom
    ask = ['--exams', 12, '--left', 'cancer=1', '--steps', 8, '--batch_size', 8, '--formats', 'png,dicom', '--device', 'cpu']
    status, out, err = call(exam_model, tmp_path/'whole', *ask)
    assert status == 0 and '48 png, 48 dicom' in out, err
    p = start(exam_model, tmp_path/'cut', *ask)
    kill(p, lambda: len(list((tmp_path/'cut').glob('exam_*/*.png'))) >= 10)
    assert not (tmp_path/'cut'/'manifest.csv').exists()
    assert call(exam_model, tmp_path/'cut', *ask)[0] == 0
    assert contents(tmp_path/'cut') == contents(tmp_path/'whole')
    studies = {}
    for path in (tmp_path/'cut').glob('exam_*/*.dcm'):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        studies.setdefault(ds.StudyInstanceUID, []).append((ds.PatientID, ds.SeriesInstanceUID, int(ds.InstanceNumber), ds.ImageLaterality, ds.ViewPosition))
    assert len(studies) == 12
    for views in studies.values():
        assert len({v[:2] for v in views}) == 1
        assert sorted(v[2:] for v in views) == [(1, 'R', 'CC'), (2, 'L', 'CC'), (3, 'R', 'MLO'), (4, 'L', 'MLO')]

def test_examinations_completed_killed_and_gone_on_with(start, call, exam_model, tmp_path):
    "Two of four views are given: the other two come, the same files however often the process dies."
    import json, pydicom
    assert call(exam_model, tmp_path/'whole', '--exams', 10, '--left', 'cancer=1', '--steps', 2, '--formats', 'dicom', '--device', 'cpu')[0] == 0
    (tmp_path/'given').mkdir()
    for i in range(10):
        for view in ('R_CC', 'L_CC')[:1 + i%2]: shutil.copy(tmp_path/'whole'/f'exam_{i:06d}'/f'{view}.dcm', tmp_path/'given'/f'{i}{view}.dcm') # their headers say who and which
    ask = ['--given', tmp_path/'given', '--steps', 12, '--batch_size', 2, '--formats', 'png,dicom', '--device', 'cpu']
    status, out, err = call(exam_model, tmp_path/'drawn', *ask)
    assert status == 0 and '25 png, 25 dicom' in out, err
    p = start(exam_model, tmp_path/'cut', *ask)
    kill(p, lambda: len(list((tmp_path/'cut').glob('exam_*/*.png'))) >= 8)
    assert call(exam_model, tmp_path/'cut', *ask)[0] == 0
    assert contents(tmp_path/'cut') == contents(tmp_path/'drawn')
    studies = {}
    for path in (tmp_path/'cut').glob('exam_*/*.dcm'):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        assert 'ANOTHER VIEW of a synthetic woman' in ds.ImageComments
        studies.setdefault(ds.StudyInstanceUID, []).append((ds.ImageLaterality, ds.ViewPosition, 'cancer=1' in ds.ImageComments))
    assert sorted(map(sorted, studies.values())) == sorted(([[('L', 'CC', False), ('L', 'MLO', False), ('R', 'MLO', False)], [('L', 'MLO', True), ('R', 'MLO', False)]])*5)

@pytest.mark.parametrize('args, word', [(['--exams', 2, '--n', 3], 'exams=2'), (['--views', 'CC'], 'say how many with exams'), (['--exams', 2, '--views', 'CC,CC'], 'twice'),
                                        (['--exams', 2, '--conditions', 'view=CC'], 'view is asked for'), (['--exams', 2, '--left', 'view=CC'], "a woman's"),
                                        (['--exams', 2, '--like', 'x.csv'], 'its rows are images')])
def test_what_is_no_examination(call, exam_model, tmp_path, args, word):
    status, out, err = call(exam_model, tmp_path/'out', *args)
    assert status == 1 and word in err and 'Traceback' not in err and len(err.splitlines()) <= 2, err
    assert not (tmp_path/'out').exists()

def test_single_images_make_no_examination(call, model, tmp_path):
    status, out, err = call(model, tmp_path/'out', '--exams', 2)
    assert status == 1 and 'model.exams=true' in err and len(err.splitlines()) <= 2 and not (tmp_path/'out').exists(), err

def test_foreign_folder_is_left_alone(call, model, tmp_path):
    (tmp_path/'holiday.jpg').write_bytes(b'sea')
    status, out, err = call(model, tmp_path, '--n', 2, '--steps', 1)
    assert status == 1 and 'holiday.jpg' in err and 'Traceback' not in err and len(err.splitlines()) <= 2
    assert [p.name for p in tmp_path.iterdir()] == ['holiday.jpg']

@pytest.mark.parametrize('args, word', [(['--conditions', 'view=XX'], 'XX'), (['--conditions', 'gone.csv'], 'gone.csv'), (['--formats', 'gif'], 'gif'),
                                        (['--like', 'gone'], 'like=gone'), (['--batch_size', 0], 'batch_size=0'), (['--device', 'tpu'], 'tpu'),
                                        (['--from', 'gone', '--conditions', 'view=CC'], 'gone: no such folder'), (['--from', 'gone', '--seed', 3], 'seed=3'),
                                        (['--finding', 'none'], 'finding=none'), (['--from', 'gone', '--conditions', 'density=4'], "no condition 'density'"),
                                        (['--from', 'gone', '--finding', '3,4'], 'no maps of findings'), (['--maps'], 'no maps of findings')])
def test_errors_are_a_line(call, model, tmp_path, args, word):
    status, out, err = call(model, tmp_path/'out', *args)
    assert status == 1 and word in err and 'Traceback' not in err and len(err.splitlines()) <= 2, err
    assert not (tmp_path/'out').exists()

def test_damaged_and_foreign_models(call, model, tmp_path):
    import json, shutil
    for name, change in dict(damaged=lambda f: (f/'model.safetensors').write_bytes((f/'model.safetensors').read_bytes()[:-9]),
                             future=lambda f: (f/'config.json').write_text(json.dumps(json.loads((f/'config.json').read_text()) | dict(format='nlbs-cvae 99')))).items():
        change(shutil.copytree(model, tmp_path/name))
        status, out, err = call(tmp_path/name, tmp_path/'out', '--n', 1)
        assert status == 1 and 'Traceback' not in err and len(err.splitlines()) <= 2 and not (tmp_path/'out').exists(), err

def test_help(call): 
    status, out, err = call('--help')
    assert status == 0 and all(o in out for o in ('for example', 'guidance', '--from_images', '--allow_real_sources', '--maps'))

@pytest.fixture(scope='module')
def breasts(tmp_path_factory):
    "Pictures that don't say what they are, as a hospital's export would leave them."
    from nlbs_cvae.figures import save_png
    from nlbs_cvae.phantom import phantom_image
    folder = tmp_path_factory.mktemp('breasts')
    for i in range(5): save_png(folder/f'roe_{i}.png', (phantom_image(i, 'MLO', 'L', 60, size=(160, 128))[0]*65535).astype(np.uint16))
    return folder

def test_a_real_womans_counterfactual_needs_a_word_and_says_so(call, model, breasts, tmp_path):
    import pydicom
    from PIL import Image
    ask = ['--from', breasts, '--known', 'view=MLO,laterality=L', '--conditions', 'view=CC', '--steps', 4, '--formats', 'png,dicom']
    status, out, err = call(model, tmp_path/'out', *ask)
    assert status == 1 and '5 of 5 images are of real women' in err and '--allow_real_sources' in err and 'Traceback' not in err and len(err.splitlines()) <= 2, err
    assert not (tmp_path/'out').exists()
    status, out, err = call(model, tmp_path/'out', *ask, '--allow_real_sources')
    assert status == 0 and '5 synthetic images' in out and 'private/' in out, err
    assert (tmp_path/'out'/'manifest.csv').read_text().count('counterfactual of a real image: view MLO to CC') == 5
    with Image.open(tmp_path/'out'/'000004.png') as im: assert (im.text['Synthetic'], im.text['Source']) == ('yes', 'real')
    ds = pydicom.dcmread(tmp_path/'out'/'dicom'/'000004.dcm')
    assert ds.SyntheticData == 'YES' and "real woman's image" in ds.DerivationDescription and ds.ViewPosition == 'CC'
    named = [n for n, data in contents(tmp_path/'out').items() if b'roe_' in data or str(breasts).encode() in data]
    assert named == ['private/sources.csv']
    status, out, err = call(model, tmp_path/'again', '--from', tmp_path/'out', '--conditions', 'view=MLO', '--steps', 4) # what was made from her shows her
    assert status == 1 and 'real women' in err

def test_counterfactuals_killed_and_gone_on_with(start, call, model, breasts, tmp_path):
    ask = ['--from', breasts, '--conditions', 'view=CC', '--steps', 24, '--batch_size', 1, '--device', 'cpu', '--allow_real_sources']
    assert call(model, tmp_path/'whole', *ask)[0] == 0
    p = start(model, tmp_path/'cut', *ask)
    kill(p, (tmp_path/'cut'/'000001.png').exists)
    assert not (tmp_path/'cut'/'manifest.csv').exists()
    assert call(model, tmp_path/'cut', *ask)[0] == 0
    assert contents(tmp_path/'cut') == contents(tmp_path/'whole')

def test_another_reader_sees_the_same_pixels(call, model, tmp_path):
    gdcm = pytest.importorskip('gdcm')
    assert call(model, tmp_path/'out', '--n', 3, '--steps', 2, '--formats', 'png,dicom')[0] == 0
    from PIL import Image
    for dcm in sorted((tmp_path/'out'/'dicom').glob('*.dcm')):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(dcm))
        assert reader.Read()
        image = reader.GetImage()
        pixels = np.frombuffer(image.GetBuffer().encode('utf-8', 'surrogateescape'), np.uint16).reshape(image.GetDimension(1), image.GetDimension(0))
        with Image.open(tmp_path/'out'/f'{dcm.stem}.png') as png: assert np.array_equal(pixels, np.rint(np.asarray(png)*(4095/65535)))

def peak(p, until=lambda: False):
    "Most private memory of a process, in kB, until it ends or `until()`."
    most = 0
    while p.poll() is None and not until():
        try: most = max(most, int(next(l for l in open(f'/proc/{p.pid}/status') if l.startswith('RssAnon')).split()[1]))
        except (StopIteration, FileNotFoundError, ProcessLookupError): pass
        time.sleep(.05)
    return most

@pytest.mark.slow
def test_ten_thousand_in_bounded_memory(start, model, tmp_path):
    "Minutes: 10,000 images at 64 pixels need no more memory than 1,000; killed half-way and gone on with, the files are the same."
    ask = lambda n, out: start(model, tmp_path/out, '--n', n, '--steps', 2, '--batch_size', 64, '--formats', 'png,npy', '--device', 'cpu')
    few, begun = peak(ask(1000, 'few')), time.monotonic()
    many = peak(p := ask(10000, 'many'))
    print(f'{10000/(time.monotonic() - begun):.0f} images/s, {few//1024} MB for 1,000, {many//1024} MB for 10,000')
    assert p.returncode == 0 and many < 1.1*few + 20000 # kB
    peak(p := ask(10000, 'cut'), (tmp_path/'cut'/'005000.png').exists)
    p.kill()
    assert p.wait() == -signal.SIGKILL
    assert peak(p := ask(10000, 'cut')) < 1.1*few + 20000 and p.returncode == 0
    assert contents(tmp_path/'cut') == contents(tmp_path/'many') and len(contents(tmp_path/'many')) == 10004


# ---- tables of conditions: used, named or refused

TABLE = 'view,laterality,cancer\nCC,L,0\nMLO,R,0\n'

def test_tables_are_read_as_meant_or_refused_by_row(call, model, tmp_path):
    import gzip
    same = dict(plain=TABLE, spaces=TABLE.replace(',', ', '), capitals=TABLE.replace('view,laterality', ' View ,LATERALITY'), tabs=TABLE.replace(',', '\t'),
                sep='sep=;\n' + TABLE.replace(',', ';'), utf16=TABLE.encode('utf-16'), mark='\ufeff' + TABLE, remarks='# from the clinic\n' + TABLE,
                packed=gzip.compress(TABLE.encode()))
    from nlbs_cvae.core import InputError
    from nlbs_cvae.generator import Generator
    from nlbs_cvae.requests import read_codes
    conditions = Generator.from_pretrained(model).conditions
    for name, data in same.items():
        file = tmp_path/f'{name}.csv'
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
        assert read_codes(conditions, str(file)).tolist() == [[0, 0, 0], [1, 1, 0]], name
    for name, data, words in (('more', TABLE.replace('CC,L,0', 'CC,L,0,0'), ['row 1']), ('fewer', TABLE.replace('MLO,R,0', 'MLO,R'), ['row 2']),
                              ('comma', TABLE.replace(',R,0', ',R,0,5'), ['row 2']), ('slip', TABLE.replace('view', 'veiw'), ["'veiw'"]), ('letter', TABLE.replace('laterality', 'lateralities'), ["'lateralities'"]),
                              ('twice', TABLE.replace('cancer', 'View'), ['view', 'View']), ('value', TABLE.replace('CC', 'CX'), ['row 1', 'CX'])):
        (tmp_path/f'{name}.csv').write_text(data)
        try: got = read_codes(conditions, tmp_path/f'{name}.csv')
        except InputError as e: assert all(w in str(e) for w in words), (name, str(e))
        else: assert name == 'twice' and got[:, 0].tolist() == [0, 1], (name, got)

def test_columns_are_used_or_named(call, model, tmp_path):
    (tmp_path/'t.csv').write_text('patient,View,laterality\nA77,CC,L\nB13,MLO,R\nC09,CC,R\n')
    status, out, err = call(model, tmp_path/'out', '--like', tmp_path/'t.csv', '--n', 2, '--steps', 1)
    assert status == 0, err
    assert "columns that nothing uses: 'patient'" in out and 'no column for cancer: any' in out and 'patient' not in (tmp_path/'out'/'manifest.csv').read_text()
    assert '1 rows are left out' in out and '2 images asked for; there are 2 png' in out and 'cancer any' in out

def test_an_archives_table_is_read_through_its_mapping(call, model, tmp_path):
    (tmp_path/'t.csv').write_text('File Path,Image Laterality,View Position,Age,Cancer,False Positive\n\\normal\\209423175501\\left\\CC\\a.dcm,L,CC,61,0,0\n')
    status, out, err = call(model, tmp_path/'out', '--like', tmp_path/'t.csv', '--steps', 1, '--mapping', 'nlbs')
    assert status == 0 and 'view CC; laterality L; cancer 0' in out, err
    status, out, err = call(model, tmp_path/'two', '--conditions', 'view=CC', '--mapping', 'nlbs')
    assert status == 1 and 'mapping=nlbs' in err and not (tmp_path/'two').exists()

# ---- folders: whose they are

def test_a_second_process_is_refused(start, call, model, tmp_path):
    ask = [model, tmp_path/'out', '--n', 100000, '--steps', 4, '--batch_size', 2, '--device', 'cpu']
    p = start(*ask)
    while p.poll() is None and not (tmp_path/'out'/'000001.png').exists(): time.sleep(.01)
    status, out, err = call(*ask)
    p.kill(); p.communicate()
    assert status == 1 and f'process {p.pid}' in err and len(err.splitlines()) == 1, err

@pytest.mark.parametrize('name', ['17_patient.dcm', '000017.png', '0000001.dcm', 'notes.txt', '.secret.tmp'])
def test_only_what_is_proven_ours_is_removed(model, tmp_path, name):
    from nlbs_cvae.core import InputError
    from nlbs_cvae.generator import Generator
    from nlbs_cvae.sampling import generate
    generator, out = Generator.from_pretrained(model), tmp_path/'out'
    generate(generator, out, n=3, steps=1, formats=('png', 'dicom'))
    theirs = [out/name, out/'dicom'/name]
    for p in theirs: p.write_bytes(b'a radiologist made this')
    generate(generator, out, n=2, steps=1, seed=1, replace=True)
    assert all(p.read_bytes() == b'a radiologist made this' for p in theirs)
    assert sorted(p.name for p in out.glob('0*.png') if p not in theirs) == ['000000.png', '000001.png']
    (out/'000001.png').write_bytes(b'a radiologist made this too')
    with pytest.raises(InputError, match='000001.png: not written by a generation'): generate(generator, out, n=2, steps=1, seed=2, replace=True)
    assert (out/'000001.png').read_bytes() == b'a radiologist made this too'

@pytest.mark.parametrize('link', ['dicom', '000000.png', 'images.npy', 'manifest.csv'])
def test_links_are_not_followed(model, tmp_path, link):
    from nlbs_cvae.core import InputError
    from nlbs_cvae.generator import Generator
    from nlbs_cvae.sampling import generate
    generator, out, ask = Generator.from_pretrained(model), tmp_path/'out', dict(n=2, steps=1, formats=('png', 'npy', 'dicom'))
    generate(generator, out, **ask)
    (out/link).rename(tmp_path/'elsewhere')
    (out/link).symlink_to(tmp_path/'elsewhere')
    before = contents(tmp_path/'elsewhere') if link == 'dicom' else (tmp_path/'elsewhere').read_bytes()
    for again in (dict(seed=0), dict(seed=1, replace=True)):
        with pytest.raises(InputError, match=f'{link}: a link'): generate(generator, out, **ask, **again)
    assert before == (contents(tmp_path/'elsewhere') if link == 'dicom' else (tmp_path/'elsewhere').read_bytes())

def test_a_copy_by_hard_links_is_another_folder(model, tmp_path):
    "Backups and `cp -al` give one file two names: what is generated under one of them leaves the other as it was."
    from nlbs_cvae.sampling import generate, load_generator
    g, one, two = load_generator(model, 'cpu'), tmp_path/'one', tmp_path/'two'
    generate(g, one, 4, steps=1, formats=('png', 'npy', 'dicom'))
    shutil.copytree(one, two, copy_function=os.link)
    before = {p.relative_to(one): p.read_bytes() for p in one.rglob('*') if p.is_file()}
    generate(g, two, 4, steps=1, seed=1, formats=('png', 'npy', 'dicom'), replace=True)
    shutil.rmtree(two)
    shutil.copytree(one, two, copy_function=os.link)
    (two/'000003.png').unlink() # unfinished: gone on with
    generate(g, two, 4, steps=1, formats=('png', 'npy', 'dicom'))
    assert (two/'images.npy').stat().st_ino != (one/'images.npy').stat().st_ino
    assert before == {p.relative_to(one): p.read_bytes() for p in one.rglob('*') if p.is_file()}

def test_archives_are_not_written_into(call, model, tmp_path):
    from nlbs_cvae.phantom_archive import write_phantom
    archive = write_phantom(tmp_path/'archive', women=3, size=(384, 300))
    (tmp_path/'short').symlink_to(archive)
    below = next(archive.rglob('*.dcm')).parent
    before = contents(archive)
    for out in (archive/'new', below/'new', tmp_path/'short'/'new', archive, below):
        status, _, err = call(model, out, '--n', 1, '--steps', 1)
        assert status == 1 and ('only read' in err or 'holds other files' in err) and len(err.splitlines()) == 1, err
    assert contents(archive) == before

# ---- DICOM: what it can't say is said first

def a_model(folder, **kw):
    from nlbs_cvae.cvae import ConditionalVAE
    from nlbs_cvae.conditions import Condition, Conditions
    from nlbs_cvae.generator import Generator, Prior
    conditions = Conditions([Condition(k, v) for k, v in kw.items() if k != 'constants'], kw.get('constants'))
    vae = ConditionalVAE(conditions.sizes, (32, 32), 8, channels=8, cond_dim=16)
    Generator(vae, Prior(conditions.sizes, vae.grid_shape, 8, channels=16, width=32), conditions).eval().save(folder)
    return folder

def headers(out):
    from pydicom import dcmread
    return [dcmread(p, stop_before_pixels=True) for p in sorted((out/'dicom').glob('*.dcm'))]

@pytest.mark.parametrize('asked, word', [('view=SPOT', 'SPOT'), ('any', 'SPOT'), ('view=CC', '')])
def test_a_view_without_a_code_is_refused_before_the_work(call, tmp_path, asked, word):
    model = a_model(tmp_path/'m', view=('CC', 'AT', 'SPOT'), laterality=('L', 'R'))
    status, out, err = call(model, tmp_path/'out', '--n', 3, '--steps', 1, '--formats', 'dicom', '--conditions', asked)
    if word: assert status == 1 and f"view '{word}'" in err and not (tmp_path/'out').exists(), err
    else: assert status == 0 and [ds.ViewPosition for ds in headers(tmp_path/'out')] == ['CC']*3

def test_every_view_of_a_packaged_mapping_can_be_written():
    "As a condition or a constant: nobody trains for hours on a view that has no code."
    known = {n: Mapping.load(n).conditions() for n in mapping_names()}
    views = {n: {*(c['view'].values if 'view' in c.names else ()), *([c.constants['view']] if 'view' in c.constants else ())} for n, c in known.items()}
    assert 'AT' in views['rsna'] and not {n: v - set(WRITTEN_VIEWS) for n, v in views.items() if v - set(WRITTEN_VIEWS)}

def test_axillary_tails_are_written(call, tmp_path):
    model = a_model(tmp_path/'m', view=('CC', 'MLO', 'AT'), laterality=('left', 'right'))
    status, out, err = call(model, tmp_path/'out', '--n', 2, '--steps', 1, '--formats', 'PNG, dicom', '--conditions', 'View=at,laterality=right')
    assert status == 0, err
    assert [(ds.ViewPosition, ds.ImageLaterality, ds.SyntheticData) for ds in headers(tmp_path/'out')] == [('AT', 'R', 'YES')]*2

@pytest.mark.parametrize('knows, side, view', [(dict(view=('CC', 'MLO')), None, {'CC', 'MLO'}), (dict(density=('A', 'B')), None, {None}),
                                               (dict(density=('A', 'B'), constants=dict(view='MLO', laterality='R')), 'R', {'MLO'})])
def test_a_side_that_nobody_asked_for_is_not_invented(call, tmp_path, knows, side, view):
    status, out, err = call(a_model(tmp_path/'m', **knows), tmp_path/'out', '--n', 12, '--steps', 1, '--formats', 'dicom')
    assert status == 0, err
    written = headers(tmp_path/'out')
    assert {ds.get('ImageLaterality') for ds in written} == {side} and {ds.get('ViewPosition') for ds in written} == view
    assert ("doesn't know laterality" in out) == (side is None) and {ds.SyntheticData for ds in written} == {'YES'}

# ---- samples from elsewhere

def test_a_manifest_stays_in_its_folder_and_its_columns_are_used_or_named(model, tmp_path, capsys):
    from nlbs_cvae.core import InputError
    from nlbs_cvae.figures import save_png
    from nlbs_cvae.generator import Generator
    from nlbs_cvae.measure import read_samples
    generator = Generator.from_pretrained(model)
    for i in range(2): save_png(tmp_path/f'{i}.png', np.full((64, 64), 100 + 60*i, np.uint8))
    def read(text):
        (tmp_path/'manifest.csv').write_text(text)
        return read_samples(tmp_path, generator)[1].tolist()
    assert read('File;View;Laterality;film\n0.png;CC;L;GE\n1.png;MLO;R;GE\n') == [[0, 0, 2], [1, 1, 2]]
    said = capsys.readouterr().out
    assert "nothing uses: 'film'" in said and 'no column for cancer: unknown' in said and str(tmp_path) not in said
    for text, word in (('file,view\n../x.png,CC\n', 'row 1'), ('file,view\n0.png,CC\n/etc/x.png,CC\n', 'row 2'), ('file,view,laterality\n0.png,CC,L,0\n', 'row 1'),
                       ('file,veiw\n0.png,CC\n', "'veiw'"), ('file,view\n0.png,CC\n0.png,CC\n', 'row 2')):
        with pytest.raises(InputError, match=word): read(text)
