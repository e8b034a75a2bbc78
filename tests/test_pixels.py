"What a file says of its pixels is obeyed or refused, whatever the format; what reading costs is bounded."
import os, signal, socket, struct, time, warnings

import imagecodecs, numpy as np, pandas as pd, pydicom, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from nlbs_cvae.cache import prepare_cache
from nlbs_cvae.pixels import read_dicom, read_image
from nlbs_cvae.dicom import write_dicom
from nlbs_cvae.folders import read_images
from nlbs_cvae.images import decode_raster, upright
from nlbs_cvae.phantom import phantom_image

HEADERS = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WINDOW = [(2200, 3200, 'A')]

def breast(h=96, w=72):
    "12 bits: a half disc with a mark in its upper part."
    y, x = np.mgrid[-1:1:h*1j, 0:1:w*1j]
    thick = np.clip(1 - (y/.9)**2 - (x/.8)**2, 0, 1)
    return np.where(thick > 0, 1200 + 1500*thick**.3 + 900*np.exp(-200*((x - .3)**2 + (y + .4)**2)), 0).astype(np.uint16)

@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    path = write_dicom(tmp_path_factory.mktemp('plain')/'p.dcm', breast(), laterality='L', view='MLO', windows=WINDOW, voi='LINEAR')
    return path, read_dicom(path).pixels

def check_header(tmp_path, plain, allocated, stored, photometric, shape, way, placeholder, syntax, signed):
    "The same picture under another header reads to the same grey."
    path, shown = plain
    ds, words = pydicom.dcmread(path), breast().astype(int)
    shift = stored - 12 # the same picture in more or fewer bits
    words = words << shift if shift > 0 else words >> -shift
    inverted = photometric == 'MONOCHROME1' or shape == 'INVERSE'
    centre, width, top = 2200*2.**shift, 3200*2.**shift, 2**stored - 1
    if inverted: words, centre = top - words, top - centre + 1 # LINEAR is centred half a value off
    if signed: words, centre = words - 2**(stored - 1), centre - 2**(stored - 1)
    lying = np.ascontiguousarray(upright(words & top, {6: 8, 8: 6}.get(way, way))).astype(f'u{allocated//8}')
    ds.Rows, ds.Columns = lying.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, stored, stored - 1, int(signed)
    ds.PhotometricInterpretation, ds.PresentationLUTShape, ds.VOILUTFunction = photometric, shape, 'LINEAR'
    ds.WindowCenter, ds.WindowWidth = [*[p[0] for p in placeholder], centre], [*[p[1] for p in placeholder], width]
    del ds.WindowCenterWidthExplanation
    turned = {1: 'A FR', 2: 'P FR', 3: 'P HL', 4: 'A HL', 5: 'FR A', 6: 'FR P', 7: 'HL P', 8: 'HL A'}
    ds.PatientOrientation = turned[way].split()
    ds['PixelData'] = pydicom.DataElement('PixelData', 'OW' if allocated == 16 or syntax == 'OW' else 'OB', lying.tobytes())
    if syntax != 'little':
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        if allocated == 16 or syntax == 'OW': ds['PixelData'].value = lying.view(np.uint16).byteswap().tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        pydicom.dcmwrite(tmp_path/'h.dcm', ds, enforce_file_format=True)
    got = read_dicom(tmp_path/'h.dcm')
    assert np.abs(got.pixels - shown).max() < .02 if stored > 9 else np.abs(got.pixels - shown).max() < .03
    assert got.route.startswith(f'window {len(placeholder) + 1}/{len(placeholder) + 1} LINEAR') and bool(got.turned) == (way > 1)

HEADER = dict(depth=st.sampled_from([(8, 8), (16, 8), (16, 10), (16, 12), (16, 14), (16, 16)]), photometric=st.sampled_from(['MONOCHROME1', 'MONOCHROME2']),
              shape=st.sampled_from(['IDENTITY', 'INVERSE']), way=st.integers(1, 8), syntax=st.sampled_from(['little', 'OB', 'OW']), signed=st.booleans(),
              placeholder=st.lists(st.sampled_from([(0, 1), (0, 0), (1, 0), (2**20, 2**21), (-2**20, 5)]), max_size=2))

@settings(max_examples=60, **HEADERS)
@given(**HEADER)
def test_headers_are_obeyed(tmp_path, plain, depth, **kw): check_header(tmp_path, plain, *depth, **kw)

@pytest.mark.slow # two thousand headers take minutes
@settings(max_examples=2000, **HEADERS)
@given(**HEADER)
def test_headers_are_obeyed_at_length(tmp_path, plain, depth, **kw): check_header(tmp_path, plain, *depth, **kw)

@settings(max_examples=40, **HEADERS)
@given(kind=st.sampled_from(['L', 'P', 'LA', 'RGB', 'RGBA']), suffix=st.sampled_from(['png', 'tif', 'jpg', 'bmp']), way=st.integers(1, 8))
def test_pictures_are_obeyed(tmp_path, kind, suffix, way):
    grey = (breast() >> 4).astype(np.uint8)
    im, exif = Image.fromarray(np.ascontiguousarray(upright(grey, {6: 8, 8: 6}.get(way, way)))).convert(kind), Image.Exif()
    exif[274] = way
    if suffix in ('jpg', 'bmp') and kind in ('LA', 'RGBA', 'P'): im = im.convert('RGB')
    im.save(tmp_path/f'a.{suffix}', **({} if suffix == 'bmp' else dict(exif=exif)), **(dict(quality=98) if suffix == 'jpg' else {}))
    got = decode_raster(tmp_path/f'a.{suffix}')
    assert np.abs(got.words.astype(int) - (upright(grey, {6: 8, 8: 6}.get(way, way)) if suffix == 'bmp' else grey)).max() < 12

@settings(max_examples=40, **HEADERS)
@given(form=st.sampled_from(['dcm', 'LA8', 'LA16', 'RGBA8', 'RGBA16']), box=st.tuples(*[st.integers(0, 60)]*4), bright=st.booleans())
def test_nothing_shows_where_nothing_was_measured(tmp_path, form, box, bright):
    "Padding and what is transparent: `valid` knows it, and it is black, whatever is stored there."
    top, left, h, w = box
    hidden = np.zeros(breast().shape, bool)
    hidden[top:top + h, left:left + w] = True
    words = np.clip(breast(), 10, 4000)
    if form == 'dcm':
        path = write_dicom(tmp_path/'v.dcm', np.where(hidden, 4095 if bright else 1, words).astype(np.uint16), laterality='L', view='CC', windows=WINDOW,
                           voi='LINEAR', padding=(4095, 4095) if bright else (1, 1))
    else:
        depth = np.dtype('u2' if form.endswith('16') else 'u1')
        grey, last = (words << 4 if depth == 'u2' else words >> 4).astype(depth), np.iinfo(depth).max
        grey, alpha = np.where(hidden, last if bright else 7, grey).astype(depth), np.where(hidden, 0, last).astype(depth)
        path = tmp_path/'v.png'
        path.write_bytes(imagecodecs.png_encode(np.dstack([*[grey]*(1 if form.startswith('LA') else 3), alpha])))
    m = read_image(path)
    valid = np.ones(hidden.shape, bool) if m.valid is None else m.valid
    assert (valid == ~hidden).all() and not m.pixels[hidden].any() and (m.pixels[~hidden] > 0).mean() > .4

def tiff(path, words, white_is_zero, end):
    "One strip without compression, by the standard: little or big end first."
    bits, data = 8*words.itemsize, words.astype(words.dtype.newbyteorder(end)).tobytes()
    tags = [(256, 4, words.shape[1]), (257, 4, words.shape[0]), (258, 3, bits), (259, 3, 1), (262, 3, int(not white_is_zero)), (273, 4, 8), (277, 3, 1),
            (278, 4, words.shape[0]), (279, 4, len(data))]
    entries = b''.join(struct.pack(f'{end}HHI' + ('I' if kind == 4 else 'HH'), tag, kind, 1, *([value] if kind == 4 else [value, 0])) for tag, kind, value in tags)
    path.write_bytes((b'II' if end == '<' else b'MM') + struct.pack(f'{end}HI', 42, 8 + len(data)) + data + struct.pack(f'{end}H', len(tags)) + entries + bytes(4))

@settings(max_examples=40, **HEADERS)
@given(suffix=st.sampled_from(['dcm', 'tif', 'png', 'pgm']), bits=st.sampled_from([8, 12, 16]), negative=st.booleans(), end=st.sampled_from('<>'))
def test_samples_pass_the_same_door(tmp_path, suffix, bits, negative, end):
    "The same picture from another program's model, whatever its form, has the same grey: nothing is stretched or taken for ours of 12 bits."
    drawn, top = breast(), 2**bits - 1
    words = (drawn >> 4).astype(np.uint8) if bits == 8 else drawn << (bits - 12)
    turned, path = (top - words).astype(words.dtype) if negative else words, tmp_path/f'a.{suffix}'
    if suffix == 'dcm': write_dicom(path, turned.astype(np.uint16), laterality='L', view='CC', bits=bits, photometric='MONOCHROME1' if negative else 'MONOCHROME2')
    elif suffix == 'tif': tiff(path, turned if bits != 12 else turned << 4 | 15*negative, negative, end)
    elif suffix == 'png': Image.fromarray(words if bits != 12 else words << 4).save(path)
    else: path.write_bytes(f'P5 {words.shape[1]} {words.shape[0]} {top}\n'.encode() + words.astype(words.dtype.newbyteorder('>')).tobytes())
    (tmp_path/'manifest.csv').write_text(f'row,file,view\n0,{path.name},CC\n')
    assert np.abs((read_images(tmp_path)[0] + 1)/2 - drawn/4095).max() < .006

# ---- files that are no images, or cost too much

def table(folder, names):
    pd.DataFrame(dict(file=names, subject=[f'P{i}' for i in range(len(names))], view='CC', laterality='L')).to_csv(folder/'metadata.csv', index=False)

def test_strange_files_are_set_aside_and_the_others_prepared(tmp_path):
    "A pipe, a device, a socket, a folder, bombs: each by its reason, in seconds; what isn't a screening view by its name."
    folder = tmp_path/'archive'
    folder.mkdir()
    good = [f'good{i}.dcm' for i in range(6)]
    for i, name in enumerate(good): write_dicom(folder/name, np.uint16(4095*phantom_image(i, 'CC', 'L', 60, size=(256, 200))[0]), laterality='L', view='CC')
    os.mkfifo(folder/'pipe.dcm')
    (folder/'zero.dcm').symlink_to('/dev/zero')
    (folder/'folder.dcm').mkdir()
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder) # a socket's name is short
    try: s.bind('socket.dcm')
    finally: os.chdir(here)
    for name, change in (('bomb.dcm', lambda ds: (setattr(ds, 'PixelData', bytes(2**28)), setattr(ds.file_meta, 'TransferSyntaxUID', DeflatedExplicitVRLittleEndian))),
                         ('spot.dcm', lambda ds: setattr(ds, 'ViewPosition', 'SCC')), ('screen.dcm', lambda ds: setattr(ds, 'ImageType', ['DERIVED', 'PRIMARY', 'SCREEN SAVE'])),
                         ('part.dcm', lambda ds: setattr(ds, 'PartialView', 'YES'))):
        ds = pydicom.dcmread(folder/good[0])
        change(ds)
        pydicom.dcmwrite(folder/name, ds, enforce_file_format=True)
    strange = ['pipe.dcm', 'zero.dcm', 'folder.dcm', 'socket.dcm', 'bomb.dcm', 'spot.dcm', 'screen.dcm', 'part.dcm']
    table(folder, good + strange)
    cache = prepare_cache(folder, mapping='folder', cache=tmp_path/'cache', resolution=64, max_faults=.4, workers=2)
    faults = pd.read_csv(tmp_path/'cache'/'private'/'quarantine.csv')
    assert len(cache) == len(good)
    assert dict(zip(faults.path, faults.reason)) == dict(zip(strange, ['missing']*4 + ['implausible size', 'spot compression', 'screen capture', 'partial view']))

def test_a_file_that_takes_too_long_costs_itself_alone(tmp_path, monkeypatch):
    "One that waits and one that calculates without coming back: both set aside, the others prepared."
    from nlbs_cvae import prepare
    folder = tmp_path/'archive'
    folder.mkdir()
    names = [f'{i}.dcm' for i in range(6)]
    for i, name in enumerate(names): write_dicom(folder/name, np.uint16(4095*phantom_image(i, 'CC', 'L', 60, size=(256, 200))[0]), laterality='L', view='CC')
    table(folder, names)
    read = prepare.read_image
    def slow(path, *args):
        if path.endswith('1.dcm'): time.sleep(60)
        if path.endswith('3.dcm'):
            signal.signal(signal.SIGALRM, signal.SIG_IGN) # as C code that doesn't return to Python
            while True: pass
        return read(path, *args)
    monkeypatch.setattr(prepare, 'read_image', slow)
    cache = prepare_cache(folder, mapping='folder', cache=tmp_path/'cache', resolution=64, max_faults=.4, workers=2, file_seconds=.5)
    faults = pd.read_csv(tmp_path/'cache'/'private'/'quarantine.csv').set_index('path')
    assert len(cache) == 4 and faults.reason['1.dcm'] == 'over the limit' and 'killed' in faults.detail['3.dcm']
