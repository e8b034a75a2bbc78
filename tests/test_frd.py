"The Fréchet radiomics distance, as its authors' own package gives it: the same number for the same hundred mammograms."
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch

DATA = Path(os.environ.get('NLBS_TEST_DATA', ''))/'cbis-mass-256'
LACKS = [n for n, m in (('frd-score', 'frd_score'), ('pyradiomics', 'radiomics')) if not find_spec(m)]

def two_sets(each=50):
    "Files of images of women, fifty of each half of them."
    table = pd.read_csv(DATA/'metadata.csv').sort_values(['patient_id', 'file'])
    half = table.patient_id.rank(method='dense').astype(int)%2
    return [[str(DATA/f) for f in table.file[half == k][:each]] for k in (1, 0)]

@pytest.mark.slow # half a second an image, twice
@pytest.mark.skipif(bool(LACKS), reason=f"{' and '.join(LACKS)} not installed: the extractor frd says how")
@pytest.mark.skipif(not DATA.joinpath('metadata.csv').is_file(), reason='no real images: set NLBS_TEST_DATA')
def test_frd_is_its_reference():
    import cv2
    from frd_score import compute_frd
    from nlbs_cvae.extractors import features, frd
    from nlbs_cvae.eyes import frechet_radiomics
    sets = two_sets()
    x = [torch.from_numpy(np.stack([cv2.imread(f, 0) for f in s]))[:, None]/127.5 - 1 for s in sets]
    ours, theirs = frechet_radiomics(*(features(frd(), o) for o in x)), compute_frd(sets, num_workers=1)
    print(f'100 mammograms: ours {ours.value:.6f}, the reference {theirs:.6f}')
    assert ours.n == (50, 50) and abs(ours.value - theirs) < 1e-3
