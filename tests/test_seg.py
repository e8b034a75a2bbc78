"DICOM SEG of drawn findings, as highdicom reads it: the masks, the image they lie on, and the same file in every run."
import numpy as np, pytest
from test_generation import contents, untrained

highdicom = pytest.importorskip('highdicom', reason="highdicom isn't installed (pip install 'nlbs-cvae[seg]')")

@pytest.fixture(scope='module')
def placing():
    "A model of examinations whose maps are never empty for long."
    import torch
    from nlbs_cvae.cvae import ConditionalVAE
    from nlbs_cvae.findings import with_findings
    from nlbs_cvae.generator import Generator, Prior
    torch.manual_seed(0)
    conditions = untrained((9, 9, 0)).conditions
    vae = with_findings(ConditionalVAE(conditions.sizes, (64, 64), 8, channels=8, cond_dim=16), [2])
    gen = Generator(vae, Prior(conditions.sizes, vae.grid_shape, 8, channels=16, width=32, map_shape=vae.map_shape, exams=True), conditions).eval()
    torch.nn.init.normal_(gen.prior.m_net.end[-1].weight, std=.5)
    return gen

@pytest.mark.parametrize('exams', [False, True])
def test_segs_are_the_masks(placing, tmp_path, exams):
    import pydicom
    from nlbs_cvae.folders import is_ours, source_kind
    from nlbs_cvae.requests import Exam
    from nlbs_cvae.sampling import generate, read_masks
    ask = dict(n=3, steps=4, formats='png,dicom', maps=True, exam=Exam() if exams else None)
    df, found, series = generate(placing, tmp_path/'out', **ask), 0, {}
    for i, name in enumerate(df.dicom):
        masks, path, image = read_masks(tmp_path/'out', i, ['cancer']), tmp_path/'out'/'seg'/f'{i:06d}.dcm', pydicom.dcmread(tmp_path/'out'/name)
        assert path.exists() == bool(masks)
        if not masks: continue
        seg, found = highdicom.seg.segread(path), found + len(masks)
        pixels = seg.get_pixels_by_source_instance([image.SOPInstanceUID])[0] # (H,W,segments)
        assert pixels.shape == (64, 64, len(masks))
        for k, f in enumerate(masks): assert np.array_equal(pixels[..., k] > 0, f.mask)
        assert [s.SegmentLabel for s in seg.SegmentSequence] == [f'cancer {k}' for k in range(1, len(masks) + 1)]
        assert (seg.PatientID, seg.StudyInstanceUID, seg.SyntheticData) == (image.PatientID, image.StudyInstanceUID, 'YES')
        assert is_ours(path) and source_kind(path) == 'synthetic'
        series.setdefault(seg.StudyInstanceUID, set()).add(seg.SeriesInstanceUID)
    assert found > 3 and all(len(s) == 1 for s in series.values())
    for name in ('manifest.csv', df.dicom[1]): (tmp_path/'out'/name).unlink()
    before = {n: data for n, data in contents(tmp_path/'out').items() if n.startswith('seg/')}
    generate(placing, tmp_path/'out', **ask) # gone on with, later
    assert {n: data for n, data in contents(tmp_path/'out').items() if n.startswith('seg/')} == before

def test_an_image_without_view_and_side(tmp_path):
    "A secondary capture can be segmented too, and pieces that overlap."
    import pydicom
    from nlbs_cvae.dicom import write_dicom
    from nlbs_cvae.masks import Finding, write_seg
    image = write_dicom(tmp_path/'a.dcm', np.zeros((48, 32), np.uint16), laterality=None, view=None, synthetic=True, patient_id='SYNTHETIC-0', study='1')
    masks = np.zeros((2, 48, 32), bool)
    masks[0, 8:16, 8:24] = masks[1, 12:20, 16:32] = True
    write_seg(tmp_path/'seg.dcm', image, [Finding(flag, (0, 0, 1, 1), 1., m) for flag, m in zip(('cancer', 'benign'), masks)])
    seg = highdicom.seg.segread(tmp_path/'seg.dcm')
    pixels = seg.get_pixels_by_source_instance([pydicom.dcmread(image).SOPInstanceUID])[0]
    assert np.array_equal(pixels > 0, masks.transpose(1, 2, 0))
