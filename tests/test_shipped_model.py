"The model that comes with the library: small, credited, and what its card says it is."
from importlib.resources import files

import pytest, torch
from nlbs_cvae.core import sha256
from nlbs_cvae.sampling import load_generator

FOLDER = files('nlbs_cvae')/'models'/'cbis_256'

def test_it_is_small_and_credited():
    card = (FOLDER/'MODEL_CARD.md').read_text(encoding='utf-8')
    assert (FOLDER/'model.safetensors').stat().st_size < 16*2**20
    assert not [o for o in ('CBIS-DDSM', 'Lee et al.', 'CC BY', 'not for diagnosis', sha256(FOLDER/'model.safetensors')) if o not in card]

def test_it_names_no_source():
    "Conditions, counts and settings; no path, no patient."
    assert not [o for o in ('/', 'P_0', '.png') if o in (FOLDER/'config.json').read_text()]

def test_it_opens_by_its_name_and_obeys():
    "A breast of an MLO view reaches the upper edge of the image with its muscle; one of a CC view does not."
    g = load_generator('cbis_256')
    with torch.no_grad(): mlo, cc = (g.sample(torch.as_tensor(g.conditions.parse(o))[None].expand(8, -1), steps=8) for o in ('view=MLO', 'view=CC'))
    upper = lambda x: (x[..., :16, :96] > -.8).float().mean().item()
    assert upper(mlo) > upper(cc) + .2
    with pytest.raises(Exception, match='no model here'): load_generator('cbis_64')
