"The DICOM files that the project writes, judged by dciodvfy, which knows the standard by heart."
import subprocess

import pytest

def errors(
    path, # a DICOM file
)->list:
    "What dciodvfy calls an error; SyntheticData is younger than most copies of it, which call any tag unknown that they don't list."
    out = subprocess.run(['dciodvfy', path], capture_output=True, text=True)
    younger = lambda l: 'not a recognized standard attribute' in l and ('(0x0008,0x001c)' in l or '(0008,001c)' in l)
    return [l for l in (out.stderr + out.stdout).splitlines() if l.startswith('Error') and not younger(l)]

@pytest.mark.needs('dicom3tools')
def test_phantom_archive(archive):
    files = sorted(archive.rglob('*.dcm'))
    assert files and not {f.name: e for f in files if (e := errors(f))}

@pytest.mark.needs('dicom3tools')
def test_synthetic_images(tiny_run, tmp_path):
    from nlbs_cvae.sampling import nlbs_generate
    nlbs_generate(str(tiny_run), str(tmp_path/'out'), n=4, steps=1, formats='dicom')
    files = sorted((tmp_path/'out').rglob('*.dcm'))
    assert len(files) == 4 and not {f.name: e for f in files if (e := errors(f))}

@pytest.mark.needs('dicom3tools')
def test_every_view_and_what_is_not_known(tmp_path):
    "A view that the standard has a code for, either side, and the secondary captures that leave out what nobody knows."
    import numpy as np
    from nlbs_cvae.dicom import WRITTEN_VIEWS, write_dicom
    pixels = np.random.default_rng(0).integers(0, 4096, (80, 64)).astype(np.uint16)
    assert {'CC', 'MLO', 'ML', 'LM', 'LMO', 'AT'} <= set(WRITTEN_VIEWS) # those of the packaged mappings
    for view in (*WRITTEN_VIEWS, None):
        for side in ('L', 'R', None):
            path = write_dicom(tmp_path/'x.dcm', pixels, laterality=side, view=view, synthetic=True, patient_id='S-1', description='x')
            assert not errors(path), (side, view)

@pytest.mark.needs('dicom3tools')
def test_an_error_would_be_seen(archive, tmp_path):
    from pydicom import dcmread
    ds = dcmread(next(archive.rglob('*.dcm')))
    ds.PresentationIntentType = 'FOR FUN'
    ds.save_as(tmp_path/'broken.dcm')
    assert errors(tmp_path/'broken.dcm')
