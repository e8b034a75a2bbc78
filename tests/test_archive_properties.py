"Headers and tables as nobody would write them: reading gives an image, a table or one clear error, and nothing else."
import gzip, io, os, string, tempfile, unicodedata, warnings
from pathlib import Path

import cv2, imagecodecs, numpy as np, pandas as pd, pydicom, pytest
from hypothesis import assume, given, settings, strategies as st
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from nlbs_cvae.conditions import Condition, Conditions, match_columns, plain_name, value_key
from nlbs_cvae.core import InputError, rng
from nlbs_cvae.images import REASONS, ImageFault, Mammogram
from nlbs_cvae.pixels import read_dicom, read_image
from nlbs_cvae.dicom import read_header, write_dicom
from nlbs_cvae.mapping import Mapping, mapping_names
from nlbs_cvae.splits import check_leakage, find_oddities, split_subjects
from nlbs_cvae.metadata import id_key, read_table
from nlbs_cvae.tables import is_clutter

QUICK = settings() # how many examples: tests/conftest.py, more with --slow
ENCODERS = dict(JPEGLossless=lambda x: imagecodecs.jpeg8_encode(x, lossless=True, predictor=4, bitspersample=12),
                JPEGLosslessSV1=lambda x: imagecodecs.jpeg8_encode(x, lossless=True, predictor=1, bitspersample=12),
                JPEGLSLossless=imagecodecs.jpegls_encode,
                JPEG2000Lossless=lambda x: imagecodecs.jpeg2k_encode(x, reversible=True, codecformat='j2k', bitspersample=12))
SYNTAXES = ['ExplicitVRLittleEndian', 'ExplicitVRBigEndian', 'DeflatedExplicitVRLittleEndian', 'RLELossless', *ENCODERS]
REAL = Path(os.environ.get('NLBS_TEST_DATA', '-'))
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason='$NLBS_TEST_DATA names no folder of real images')

def breast(h=96, w=80):
    "Stored values of a smooth half disc on nothing, 12 bits."
    y, x = np.mgrid[-1:1:h*1j, 0:1:w*1j]
    thick = np.clip(1 - (y/.9)**2 - (x/.8)**2, 0, 1)
    return np.where(thick > 0, 1900 + 900*thick + rng(0).normal(0, 40, (h, w)), 0).clip(0, 4095).astype(np.uint16)

def transcode(source, dest, syntax, encoder=None):
    "A copy of a DICOM file in another transfer syntax."
    ds = pydicom.dcmread(source)
    words, encoder = ds.pixel_array, encoder or ENCODERS.get(syntax)
    if encoder:
        ds.PixelData = encapsulate([encoder(words)])
        ds['PixelData'].is_undefined_length = True
    if syntax == 'RLELossless': ds.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    if syntax == 'ExplicitVRBigEndian': ds.PixelData = words.byteswap().tobytes()
    ds.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    pydicom.dcmwrite(dest, ds, enforce_file_format=True)
    return dest

@pytest.fixture(scope='module')
def coded(tmp_path_factory):
    "The same image in every coding: name, bytes."
    folder = tmp_path_factory.mktemp('coded')
    source = write_dicom(folder/'source.dcm', breast(), laterality='R', view='MLO', age=61, patient_id='1', padding=(0, 30),
                         windows=[(2400, 900, 'NORMAL'), (2400, 700, 'HARDER')], voi='SIGMOID')
    return {s: transcode(source, folder/f'{s}.dcm', s).read_bytes() for s in SYNTAXES}

def outcome(path, read=read_image):
    "What reading gives: an image that holds what it promises, or a fault of a known kind in one line."
    try: m = read(path)
    except ImageFault as e:
        assert e.reason in REASONS and '\n' not in str(e) and str(path) in str(e)
        return e
    assert isinstance(m, Mammogram) and m.pixels.dtype == np.float32 and m.pixels.ndim == 2 and m.route
    assert np.isfinite(m.pixels).all() and m.pixels.min() >= 0 and m.pixels.max() <= 1
    assert m.valid is None or m.valid.dtype == bool and m.valid.shape == m.pixels.shape and not m.pixels[~m.valid].any()
    assert m.laterality in ('L', 'R', None) and (m.age is None or 10 <= m.age <= 120)
    return m

# ---- bytes

@QUICK
@given(data=st.binary(max_size=4000), start=st.sampled_from([b'', b'\0'*128 + b'DICM', b'\x89PNG\r\n\x1a\n', b'II*\0', b'MM\0*',
                                                             b'P5\n90 90\n255\n', b'\x08\0\x05\0', b'\xff\xd8\xff', b'BM']))
def test_random_bytes(tmp_path, data, start):
    (tmp_path/'x').write_bytes(start + data)
    outcome(tmp_path/'x')
    try: read_header(tmp_path/'x')
    except ImageFault: pass

@pytest.mark.parametrize('syntax', SYNTAXES)
def test_cut_anywhere(tmp_path, coded, syntax):
    (tmp_path/'whole.dcm').write_bytes(coded[syntax])
    whole = outcome(tmp_path/'whole.dcm')
    for n in np.linspace(0, len(coded[syntax]) - 40, 41).astype(int):
        (tmp_path/'cut.dcm').write_bytes(coded[syntax][:n])
        got = outcome(tmp_path/'cut.dcm')
        inflated = syntax.startswith('Deflated') # its end is zlib's business
        assert isinstance(got, ImageFault) and (inflated or got.reason in ('truncated', 'unreadable')), n
        if n > 700 and not inflated: assert got.reason == 'truncated', str(got)
    assert isinstance(whole, Mammogram)

@QUICK
@given(syntax=st.sampled_from(SYNTAXES), hits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=25))
def test_damaged_bytes(tmp_path, coded, syntax, hits):
    data = bytearray(coded[syntax])
    for where, value in hits: data[132 + int(where*(len(data) - 133))] = value
    (tmp_path/'damaged.dcm').write_bytes(data)
    outcome(tmp_path/'damaged.dcm')

@QUICK
@given(kind=st.sampled_from(['png', 'pgm', 'tif', 'bmp', 'jpg']), share=st.floats(0, .98), hit=st.floats(0, 1), value=st.integers(0, 255))
def test_damaged_pictures(tmp_path, kind, share, hit, value):
    buffer = io.BytesIO()
    Image.fromarray((breast() >> 4).astype(np.uint8)).save(buffer, {'jpg':'jpeg', 'tif':'tiff', 'pgm':'ppm'}.get(kind, kind))
    data = bytearray(buffer.getvalue())
    (tmp_path/'cut').write_bytes(data[:int(share*len(data))])
    assert isinstance(outcome(tmp_path/'cut'), ImageFault) or kind in ('tif', 'jpg', 'bmp')
    data[int(hit*(len(data) - 1))] = value
    (tmp_path/'damaged').write_bytes(data)
    outcome(tmp_path/'damaged')

# ---- headers

def with_header(tmp_path, **attributes):
    "A file of the breast with other attributes; values that pydicom would refuse are written all the same."
    ds = pydicom.dcmread(write_dicom(tmp_path/'h.dcm', breast(), laterality='L', view='CC', padding=(0, 30)))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for k, v in attributes.items():
            if v is None: del ds[k]
            else: setattr(ds, k, v)
        ds.save_as(tmp_path/'h.dcm')
    return tmp_path/'h.dcm'

@QUICK
@given(centre=st.floats(-500, 5000), width=st.floats(2, 8000), function=st.sampled_from(['LINEAR', 'LINEAR_EXACT', 'SIGMOID']),
       slope=st.sampled_from([.5, 1, 2]), intercept=st.integers(-1000, 1000), mono=st.sampled_from(['MONOCHROME1', 'MONOCHROME2']))
def test_windows_as_pydicom_shows_them(tmp_path, centre, width, function, slope, intercept, mono):
    path = with_header(tmp_path, WindowCenter=f'{centre:.6g}', WindowWidth=f'{width:.6g}', VOILUTFunction=function, RescaleSlope=str(slope),
                       RescaleIntercept=str(intercept), PhotometricInterpretation=mono)
    got, ds = outcome(path), pydicom.dcmread(path)
    shown = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds).astype(float)
    shown = (shown - intercept)/(4095*slope)
    shown = np.where(ds.pixel_array <= 30, 0, 1 - shown if mono == 'MONOCHROME1' else shown)
    if got.route.startswith('percentiles'): # only where the window shows nothing of the breast
        tones = shown[ds.pixel_array > 30]
        assert 'no window' in got.route and (((tones > .02) & (tones < .98)).mean() < .02 or np.ptp(np.percentile(tones, (1, 99))) < .12)
    else: assert np.abs(got.pixels - shown).max() < 1e-6

@QUICK
@given(bits=st.integers(8, 16), signed=st.booleans(), low=st.integers(-300, 300), span=st.integers(0, 200), mono=st.booleans(), seed=st.integers(0, 99))
def test_brighter_stays_brighter(tmp_path, bits, signed, low, span, mono, seed):
    "Whatever bits, sign and padding: grey is a monotone function of the stored value, and padding is black."
    assume(signed or low >= 0)
    values = rng(seed).integers(-2**(bits - 1) if signed else 0, 2**(bits - 1) if signed else 2**bits, (80, 64))
    padding = [low & 0xFFFF, (low + span) & 0xFFFF]
    path = with_header(tmp_path, PixelData=(values & (2**bits - 1)).astype('<u2').tobytes(), BitsStored=bits, HighBit=bits - 1, Rows=80, Columns=64,
                       PixelRepresentation=int(signed), PhotometricInterpretation='MONOCHROME1' if mono else 'MONOCHROME2',
                       WindowCenter=None, WindowWidth=None, PixelPaddingValue=padding[0], PixelPaddingRangeLimit=padding[1])
    got = outcome(path)
    assert isinstance(got, Mammogram) and got.route.startswith('percentiles')
    valid = np.ones_like(values, bool) if got.valid is None else got.valid
    order = np.argsort(values[valid], kind='stable')
    steps = np.diff(got.pixels[valid][order])
    assert (steps <= 0).all() if mono else (steps >= 0).all()
    assert (valid == ~((values >= low) & (values <= low + span))).all()

JUNK = st.one_of(st.none(), st.just(''), st.text(string.printable, max_size=20), st.integers(-2**31, 2**31 - 1).map(str))
FIELDS = ['Modality', 'PatientAge', 'PatientBirthDate', 'StudyDate', 'ImageLaterality', 'ViewPosition', 'PatientOrientation', 'WindowCenter',
          'WindowWidth', 'VOILUTFunction', 'WindowCenterWidthExplanation', 'RescaleSlope', 'RescaleIntercept', 'ImagerPixelSpacing', 'NumberOfFrames',
          'PresentationIntentType', 'PixelIntensityRelationship', 'PhotometricInterpretation', 'QualityControlImage', 'PatientID']

@QUICK
@given(fields=st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=5))
def test_junk_in_the_header(tmp_path, fields):
    try: path = with_header(tmp_path, **fields)
    except Exception: assume(False) # what pydicom can't even write
    outcome(path)

@QUICK
@given(fields=st.dictionaries(st.sampled_from(['Rows', 'Columns', 'BitsAllocated', 'BitsStored', 'HighBit', 'PixelRepresentation', 'SamplesPerPixel',
                                               'PixelPaddingValue', 'PixelPaddingRangeLimit']), st.integers(0, 65535), max_size=4))
def test_numbers_that_do_not_fit(tmp_path, fields): outcome(with_header(tmp_path, **fields))

# ---- codings

def test_other_peoples_streams(tmp_path):
    "A signed JPEG 2000 stream, one in its own file format, several fragments; a stream of another size is refused."
    source = write_dicom(tmp_path/'s.dcm', breast(), laterality='L', view='CC', padding=(0, 30))
    whole, stream = read_dicom(source).pixels, ENCODERS['JPEG2000Lossless'](breast())
    ds = pydicom.dcmread(source)
    ds.PixelRepresentation, ds.RescaleIntercept, ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = 1, '2048', -2048 & 0xFFFF, -2018 & 0xFFFF
    ds.PixelData = ((breast().astype(int) - 2048) & 0xFFFF).astype('<u2').tobytes()
    ds.save_as(tmp_path/'signed.dcm')
    jp2 = lambda x: imagecodecs.jpeg2k_encode(x, reversible=True, codecformat='jp2', bitspersample=12)
    j2k = lambda x: imagecodecs.jpeg2k_encode(x, reversible=True, codecformat='j2k')
    for path, encoder in (source, jp2), (tmp_path/'signed.dcm', j2k):
        assert np.abs(read_dicom(transcode(path, tmp_path/'t.dcm', 'JPEG2000Lossless', encoder)).pixels - whole).max() < 1e-6
    ds = pydicom.dcmread(transcode(source, tmp_path/'t.dcm', 'JPEG2000Lossless'))
    ds.PixelData = encapsulate([stream], fragments_per_frame=3)
    ds.save_as(tmp_path/'fragments.dcm')
    assert (read_dicom(tmp_path/'fragments.dcm').pixels == whole).all()
    for syntax in ENCODERS:
        fault = outcome(transcode(source, tmp_path/'t.dcm', syntax, lambda x: ENCODERS[syntax](np.ascontiguousarray(x[:, ::2]))))
        assert fault.reason == 'unreadable' and '(96, 40)' in str(fault)

# ---- real files

@needs_data
def test_four_codings_of_a_real_image():
    files = sorted(REAL.glob('mg-dicom/GE_*.dcm'))
    ims = [outcome(p, read_dicom) for p in files]
    words = pydicom.dcmread(files[0]).pixel_array
    assert len(files) == 4 and all((im.pixels == ims[0].pixels).all() for im in ims[1:])
    assert ims[0].pixels.shape == (3062, 2394) and ims[0].route == 'VOI LUT 1/3 NORMAL' and (ims[0].valid == (words > 30)).all()
    assert (ims[0].laterality, ims[0].view, ims[0].age) == ('R', 'MLO', None)

@needs_data
@pytest.mark.parametrize('said', [8, 9, 10, 11, 12, 16])
def test_fewer_bits_said_than_there_are(tmp_path, said):
    "Twelve bits under a header that says fewer: obeyed, the picture would be folded; set aside. More are no harm."
    ds = pydicom.dcmread(next(REAL.glob('mg-dicom/GE_*rle.dcm')))
    ds.decompress()
    ds.BitsStored, ds.HighBit = said, said - 1
    ds.save_as(tmp_path/'s.dcm')
    if said >= 12: assert read_dicom(tmp_path/'s.dcm').pixels.shape == (3062, 2394)
    else:
        with pytest.raises(ImageFault, match=f'BitsStored says {said}, but values go up to'): read_dicom(tmp_path/'s.dcm')

@needs_data
def test_tables_windows_and_percentiles_agree(tmp_path):
    "The maker's lookup table is its sigmoid window; without both, percentiles come close."
    source = next(REAL.glob('mg-dicom/GE_*rle.dcm'))
    table, seen = read_dicom(source), []
    for drop in (['VOILUTSequence'], ['VOILUTSequence', 'WindowCenter', 'WindowWidth', 'PixelPaddingValue', 'PixelPaddingRangeLimit']):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            ds = pydicom.dcmread(source)
            for k in drop: delattr(ds, k)
            ds.save_as(tmp_path/'w.dcm')
        seen.append(read_dicom(tmp_path/'w.dcm'))
    window, percentiles = seen
    assert window.route == 'window 1/3 NORMAL SIGMOID' and np.abs(window.pixels - table.pixels).max() < .002
    assert percentiles.route == 'percentiles' and percentiles.valid is None
    assert np.corrcoef(percentiles.pixels[table.valid], table.pixels[table.valid])[0, 1] > .95

@needs_data
def test_an_overlay_outside_its_image():
    path = next(REAL.glob('mg-dicom/*Overlay.dcm'))
    assert outcome(path).reason == 'biopsy' # a stereo pair's left image: another thing than a screening view
    m = outcome(path, lambda p: read_dicom(p, kinds=('any',)))
    assert m.pixels.shape == (1318, 788) and (m.laterality, m.view, m.turned) == ('L', 'CC', 'turned by PatientOrientation R/P')

@needs_data
def test_real_folder_of_film():
    df = read_table('', 'cbis_png', REAL/'cbis-mass-256')
    assert (len(df), df.subject.nunique(), (df.view == 'MLO').sum()) == (1231, 691, 658)
    assert Mapping.load('cbis_png').chest_wall == 'left' and all((REAL/'cbis-mass-256'/p).is_file() for p in df.path)
    assert read_image(REAL/'cbis-mass-256'/df.path[0]).route == 'raster 8 bit'

def test_the_full_matrix_as_pydicom_shows_it(tmp_path):
    "7.3 million pixels by the table, and one by one."
    path = write_dicom(tmp_path/'full.dcm', cv2.resize(breast(), (2394, 3062)), laterality='L', view='CC', padding=(0, 30),
                       windows=[(2400, 900, 'NORMAL')], voi='SIGMOID')
    ds = pydicom.dcmread(path)
    shown = np.where(ds.pixel_array > 30, apply_voi_lut(ds.pixel_array, ds)/4095, 0)
    assert np.abs(read_dicom(path).pixels - shown).max() < 1e-6

# ---- tables

def save(path, text):
    path.write_text(text, encoding='utf-8')
    return path

@QUICK
@given(text=st.text(max_size=400), name=st.sampled_from(mapping_names()))
def test_random_text_as_a_table(tmp_path, text, name):
    if name == 'headers': return
    try: read_table(save(tmp_path/'t.csv', text), name)
    except InputError as e: assert '\n' not in str(e) and 't.csv' in str(e)

@QUICK
@given(text=st.text(string.printable, max_size=300))
def test_random_text_as_a_mapping(tmp_path, text):
    try: Mapping.load(save(tmp_path/'m.yaml', text))
    except InputError as e: assert '\n' not in str(e) and 'm.yaml' in str(e)

CELL = st.text(string.ascii_letters + string.digits + ' .-_/\\', max_size=12)

@QUICK
@given(rows=st.lists(st.tuples(*[CELL]*6), min_size=1, max_size=6), separator=st.sampled_from(',;\t'))
def test_random_cells(tmp_path, rows, separator):
    head = ['File Path', 'Image Laterality', 'View Position', 'Age', 'Cancer', 'False Positive']
    text = '\n'.join(separator.join(r) for r in [head, *rows])
    try: df = read_table(save(tmp_path/'t.csv', text), 'nlbs')
    except InputError as e: assert '\n' not in str(e) and 't.csv' in str(e)
    else:
        codes = Mapping.load('nlbs').conditions().encode_table(df)
        assert codes.shape == (len(df), 5) and not df.path.str.contains(r'\\|^/|\.\./').any()

ID = st.tuples(st.sampled_from(['', '2_A', '2_D', 'ANONYMIZED- ']), st.integers(0, 10**12 - 1)).map(lambda t: f'{t[0]}{t[1]:012d}')
ROW = st.tuples(st.sampled_from(['normal', 'abnormal', 'False Positive']), ID, st.sampled_from('LR'), st.sampled_from(['CC', 'MLO']),
                st.one_of(st.none(), st.integers(50, 79)), st.sampled_from(['0', '1', '']), st.sampled_from(['0', '1', '']), st.booleans())

@QUICK
@given(rows=st.lists(ROW, min_size=1, max_size=12))
def test_rows_of_the_archive(tmp_path, rows):
    "Ids stay texts of twelve digits, what is missing stays unknown, and findings never fail."
    lines = ['File Path,Image Laterality,View Position,Age,Cancer,False Positive']
    for i, (folder, id_, side, view, age, cancer, fp, slash) in enumerate(rows):
        path = '\\'.join([folder, id_, 'left' if side == 'L' else 'right', view, f'IM-{i:04d}.dcm'])
        lines.append(','.join([('\\' if slash else '') + path, side, view, '' if age is None else str(age), cancer, fp]))
    df = read_table(save(tmp_path/'t.csv', '\n'.join(lines)), 'nlbs')
    assert list(df.subject) == [r[1][-12:] for r in rows] and list(df.study) == [r[1] for r in rows] and list(df.row) == list(range(1, len(rows) + 1))
    conditions = Mapping.load('nlbs').conditions()
    for row, code in zip(rows, conditions.decode(conditions.encode_table(df))):
        assert (code['age'] == 'unknown') == (row[4] is None) and (code['cancer'], code['false_positive']) == (row[5] or 'unknown', row[6] or 'unknown')
    find_oddities(df, 'nlbs')

# ---- tables: one content, many spellings

HEAD = ['file', 'subject', 'view', 'laterality', 'age', 'cancer']
WORD = st.text(string.ascii_letters + string.digits + 'äé#*[]?', min_size=1, max_size=8).filter(lambda t: value_key(t) and not t.startswith('#'))
IMAGE = st.tuples(WORD, st.sampled_from(['CC', 'MLO', '']), st.sampled_from(['L', 'R', '']), st.sampled_from(['', '50', '62.5', '79']), st.sampled_from(['', '0', '1']))

@st.composite
def dialects(draw, rows):
    "The bytes of a table in one of the forms that offices give it."
    separator, end = draw(st.sampled_from([',', ';', '\t', '|'])), draw(st.sampled_from(['\n', '\r\n', '\r']))
    pad, more = draw(st.sampled_from(['', ' '])), draw(st.integers(0, 2))
    spelling = draw(st.sampled_from([str, str.upper, str.title, lambda t: f' {t} ']))
    quote = draw(st.sampled_from([str, lambda t: f'"{t}"', lambda t: f'="{t}"', lambda t: f'"=""{t}"""']))
    lines = [(separator + pad).join(quote(f) for f in row) + separator*more for row in [[spelling(h) for h in HEAD], *rows]]
    for _ in range(draw(st.integers(0, 2))): lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(['', '# a remark', separator*(5 + more)])))
    text = draw(st.sampled_from(['', f'sep={separator}{end}'])) + end.join(lines) + draw(st.sampled_from(['', end]))
    data = text.encode(draw(st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])))
    return gzip.compress(data) if draw(st.booleans()) else data

@QUICK
@given(images=st.lists(IMAGE, min_size=1, max_size=5), data=st.data())
def test_one_table_in_many_forms(tmp_path, images, data):
    rows = [[f'{i}.png', *image] for i, image in enumerate(images)]
    (tmp_path/'t.csv').write_bytes(data.draw(dialects(rows)))
    df = read_table(tmp_path/'t.csv', 'folder')
    assert list(df.path) == [r[0] for r in rows] and list(df.row) == list(range(1, len(rows) + 1))
    for k, name in enumerate(HEAD[2:], 2): assert [value_key(v) for v in df[name]] == [value_key(r[k]) for r in rows], name

@QUICK
@given(images=st.lists(IMAGE, min_size=1, max_size=5), data=st.data())
def test_a_row_that_does_not_fit_is_named(tmp_path, images, data):
    rows = [[f'{i}.png', *image[:-1], '1'] for i, image in enumerate(images)]
    bad, at, extra = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 4)), data.draw(st.booleans())
    if extra: rows[bad].insert(at, 'x')
    else: del rows[bad][at]
    (tmp_path/'t.csv').write_text('\n'.join(','.join(r) for r in [HEAD, *rows]), encoding='utf-8')
    with pytest.raises(InputError, match=rf'row {bad + 1} \(line {bad + 2}\)'): read_table(tmp_path/'t.csv', 'folder')

# ---- values and ids: spelling makes no difference, and nothing else is the same

def spellings(n):
    "A whole number as tables have it."
    sign, digits = '-'*(n < 0), str(abs(n))
    return st.sampled_from([f'{n}', f'{sign}0{digits}', f'{n}.0', f'{n},00', f' {n} ', f'"{n}.00"', f'{n}.'])

@QUICK
@given(code=st.integers(-99, 9999), others=st.lists(st.integers(10000, 99999), min_size=1, max_size=3), data=st.data())
def test_a_code_means_unknown_however_it_is_spelt(tmp_path, code, others, data):
    mapping = save(tmp_path/'m.yaml', f"""columns: {{path: file, patient: subject, bmi: bmi, kind: kind}}
derive: {{subject: {{from: '{{patient}}'}}}}
missing: {{bmi: [{data.draw(spellings(code))!r}], kind: [{data.draw(spellings(code))!r}]}}
translate: {{kind: {{{', '.join(f'{data.draw(spellings(o))!r}: v{o}' for o in sorted(set(others)))}}}}}
conditions: {{bmi: {{edges: [20, 30000]}}, kind: [{', '.join(f'v{o}' for o in sorted(set(others)))}]}}
""".replace('"', ''))
    numbers = data.draw(st.lists(st.sampled_from([code, *others]), min_size=1, max_size=6))
    lines = [f'{i};P{i};{data.draw(spellings(n))};{data.draw(spellings(n))}' for i, n in enumerate(numbers)]
    df = read_table(save(tmp_path/'t.csv', '\n'.join(['file;subject;bmi;kind', *lines])), mapping)
    assert [None if pd.isna(v) else v for v in df.bmi] == [None if n == code else n for n in numbers]
    assert [v for v in df.kind] == [None if n == code else f'v{n}' for n in numbers]

@st.composite
def respelt(draw, name):
    "The same id as another hand or program would write it."
    name = draw(st.sampled_from([str, str.upper, str.lower, str.title]))(name)
    name = unicodedata.normalize(draw(st.sampled_from(['NFC', 'NFD', 'NFKC'])), name)
    if name.isdecimal(): name = draw(st.sampled_from(['', "'", '0', '00'])) + name + draw(st.sampled_from(['', '.0', ',0']))
    at = draw(st.integers(0, len(name)))
    return draw(st.sampled_from(['', ' '])) + name[:at] + draw(st.sampled_from(['', '', ' ', '  ', '\xa0']))*(name[at:at + 2] not in ('.0', ',0')) + name[at:]

NAMES = st.one_of(st.integers(1, 10**6).map(str), st.text('abcé-7', min_size=2, max_size=6)).filter(lambda t: value_key(t) and value_key(id_key(t)))

@QUICK
@given(names=st.lists(NAMES, min_size=3, max_size=30, unique_by=id_key), data=st.data())
def test_one_woman_is_one_woman(tmp_path, names, data):
    "However her id is spelt, in the table and in an earlier record of splits, and others are others."
    written = [(k, data.draw(respelt(n))) for k, n in enumerate(names) for _ in range(2)]
    df = read_table(save(tmp_path/'t.csv', '\n'.join(['file,subject,view', *(f'{i}.png,"{w}",CC' for i, (_, w) in enumerate(written))])), 'folder')
    assert df.subject.nunique() == len(names) and all(df.subject[i] == df.subject[i + 1] for i in range(0, len(df), 2))
    earlier = {data.draw(respelt(n)): data.draw(st.sampled_from(['train', 'valid', 'test'])) for n in names[:len(names)//2] for _ in range(2)}
    df['split'] = split_subjects(df, previous=earlier)
    check_leakage(df.assign(subject=[w for _, w in written]))
    kinds = find_oddities(df, 'folder').kind
    assert (kinds == 'one woman spelt in several ways').sum() == sum(len({w.strip() for j, w in written if j == k}) > 1 for k in range(len(names)))

@QUICK
@given(nobody=st.sampled_from(['', 'NA', 'nan', 'NaN', 'NULL', 'None', '#N/A', 'n/a', '-', '--', '?', 'unknown', '#REF!', 'N / A', '<NA>']),
       where=st.sets(st.integers(0, 5), min_size=1), from_path=st.booleans())
def test_nobody_is_nobody(tmp_path, nobody, where, from_path):
    assume(not from_path or nobody and '/' not in nobody and nobody[0] != '#') # a line that begins so is refused by another word
    mapping = save(tmp_path/'m.yaml', "columns: {path: file, v: v}\nderive: {subject: {from: '{path}', pattern: '^([^/]+)/'}}\nconditions: {v: [CC]}\n")
    ids = [nobody if i in where else f'P{i}' for i in range(6)]
    lines = ['file,v', *(f'{w}/{i}.png,CC' for i, w in enumerate(ids))] if from_path else ['file,subject,v', *(f'{i}.png,{w},CC' for i, w in enumerate(ids))]
    with pytest.raises(InputError, match=f'row {min(where) + 1}\\b.*no subject'):
        read_table(save(tmp_path/'t.csv', '\n'.join(lines)), mapping if from_path else 'folder')

# ---- names of columns and files

@QUICK
@given(names=st.lists(st.sampled_from(['view', 'laterality', 'age', 'cancer', 'breast density']), min_size=1, unique=True),
       others=st.lists(st.text('xyz', min_size=1, max_size=5), max_size=3, unique=True), data=st.data())
def test_every_column_is_used_or_named(names, others, data):
    spelt = {n: data.draw(st.sampled_from([n, n.upper(), n.replace(' ', '_'), f' {n}', f'\ufeff{n}', n.replace(' ', '').title()])) for n in names}
    columns = data.draw(st.permutations([*spelt.values(), *others]))
    found = match_columns(columns, ['view', 'laterality', 'age', 'cancer', 'breast_density'])
    assert {plain_name(k): v for k, v in found.used.items()} == {plain_name(k): v for k, v in spelt.items()}
    assert sorted(found.unused) == sorted(others) and len(found.used) + len(found.unanswered) == 5

FILE = st.text('abA1[]*?!{}.^$\\é ', min_size=1, max_size=6).map(str.strip).filter(
    lambda t: t and not is_clutter(t) and '\\' not in t and value_key(id_key(t)) and '..' not in t and t.strip('.'))

@QUICK
@given(women=st.lists(FILE, min_size=1, max_size=5, unique_by=lambda t: id_key(t)))
def test_data_is_never_a_pattern(tmp_path, women):
    "Each woman gets the files of her own folder, whatever she is called, and no system's leftovers."
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    for i, w in enumerate(women):
        for name in f'{i}.png', f'{i}b.PNG', '._0.png', 'Thumbs.db', '@eaDir/0.png':
            (root/w/name).parent.mkdir(parents=True, exist_ok=True)
            (root/w/name).touch()
    mapping = save(tmp_path/'m.yaml', "columns: {patient: id}\npath: '{patient}/**/*.png'\nderive: {subject: {from: '{patient}'}, v: {from: CC}}\nconditions: {v: [CC]}\n")
    df = read_table(save(tmp_path/'t.csv', '\n'.join(['id', *(f'"{w}"' for w in women)])), mapping, root)
    assert sorted(zip(df.subject, df.path)) == sorted((w, f'{w}/{n}') for i, w in enumerate(women) for n in (f'{i}.png', f'{i}b.PNG'))

# ---- conditions and splits

VALUES = st.lists(st.text(string.ascii_letters + string.digits, min_size=1, max_size=6).filter(lambda t: t.casefold() not in ('na', 'nan', 'nat', 'none', 'null', 'any', 'unknown')),
                  min_size=1, max_size=5, unique_by=str.casefold)

@QUICK
@given(values=st.lists(VALUES, min_size=1, max_size=4), data=st.data())
def test_conditions_come_back(values, data):
    conditions = Conditions(Condition(f'c{i}', tuple(v)) for i, v in enumerate(values))
    codes = np.array([data.draw(st.integers(0, c.unknown)) for c in conditions])
    assert (conditions.encode({k: v for k, v in conditions.decode(codes).items()}) == codes).all()
    assert (conditions.parse(','.join(f'{k}={v}' for k, v in conditions.decode(codes).items())) == codes).all()
    counted = conditions.with_counts(codes[None])
    assert Conditions.from_dict(counted.to_dict()) == counted
    counted.check_seen(codes)

@QUICK
@given(women=st.lists(st.integers(0, 10**6), min_size=3, max_size=120, unique=True), cut=st.integers(1, 100), seed=st.integers(0, 5))
def test_splits(women, cut, seed):
    "Nobody is in two splits, none is empty, and what was assigned once stays."
    df = pd.DataFrame(dict(subject=[f'{w:012d}' for w in women for _ in range(2)], cancer=['1' if w % 7 == 0 else '0' for w in women for _ in range(2)]))
    df['split'] = split_subjects(df[['subject', 'cancer']], seed=seed)
    check_leakage(df)
    assert set(df['split']) == {'train', 'valid', 'test'}
    earlier = df.iloc[:2*cut].drop_duplicates('subject').set_index('subject')['split'].to_dict()
    again = split_subjects(df.iloc[::-1][['subject', 'cancer']], seed=seed, previous=earlier)
    assert all(again[df.subject == s].unique().tolist() == [v] for s, v in earlier.items())
