"Two folders of samples beside the same real women: by chance no difference is found, a real one is; and what can't be compared is refused."
from types import SimpleNamespace

import numpy as np, pytest, torch
from nlbs_cvae.rivals import better, compare_rivals
from nlbs_cvae.conditions import Condition, Conditions

def women(g, n, shift=0.):
    "Features and images of `n` women, two each."
    who = np.repeat(np.arange(n//2), 2)
    f = g.normal(size=(n//2, 12))[who] + g.normal(size=(n, 12)) + shift
    return f, torch.from_numpy(g.normal(size=(n, 1, 16, 16))*.3 + .2*(f[:, :1, None, None] > 0)).clamp(-1, 1).float(), who

def folder(name, real, fake):
    "An evaluation of samples, as far as a comparison needs it."
    (f, x, who), (ff, xf, _), conditions = real, fake, Conditions([Condition('view', ('CC', 'MLO'))])
    return SimpleNamespace(beside=name, n=len(x), x=x, fake=xf, fake_subjects=np.arange(len(xf)), feats=dict(test=f, fake=ff), judge=None, conditions=conditions,
                           fake_codes=np.tile(conditions.unknown(), (len(xf), 1)), test=SimpleNamespace(subjects=who),
                           settings=SimpleNamespace(evaluation=SimpleNamespace(bootstrap=30)))

def compared(g, n, *shifts):
    "The rows of folders whose features are shifted so far."
    real = women(g, n)
    return compare_rivals([folder(f'f{i}', real, women(g, n, s)) for i, s in enumerate(shifts)])

@pytest.mark.parametrize('n', (40, 120))
def test_no_difference_is_found_by_chance(n):
    "In 100 comparisons of one generator with itself by four measures, at most five find any."
    found = [any(r['p'].value < .05 for r in compared(g, n, .2, .2).values()) for g in map(np.random.default_rng, range(100))]
    assert sum(found) <= 5, sum(found)

def test_a_difference_is_found():
    for g in map(np.random.default_rng, range(10)):
        rows = compared(g, 120, 1., 0.)
        assert better('likeness', rows['likeness [f1 - f0]']) == 'second' and rows['likeness [f1 - f0]']['difference'].high < 0

def test_more_comparisons_ask_for_more():
    "Of three folders each p-value is corrected for three times as many comparisons."
    two, three = (compared(np.random.default_rng(0), 60, *([.6, .2, .2][:k])) for k in (2, 3))
    assert len(three) == 3*len(two)
    assert all(three[k]['p'].value >= two[k]['p'].value for k in two)
