"The DICOM files that the project writes, judged by dciodvfy, which knows the standard by heart."
import subprocess

import pytest

def errors(
    path, # a DICOM file
)->list:
    "What dciodvfy calls an error."
    out = subprocess.run(['dciodvfy', path], capture_output=True, text=True)
    return [l for l in (out.stderr + out.stdout).splitlines() if l.startswith('Error')]

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
def test_an_error_would_be_seen(archive, tmp_path):
    from pydicom import dcmread
    ds = dcmread(next(archive.rglob('*.dcm')))
    ds.PresentationIntentType = 'FOR FUN'
    ds.save_as(tmp_path/'broken.dcm')
    assert errors(tmp_path/'broken.dcm')
