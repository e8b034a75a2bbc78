"A table against its archive, from the files to the cache: what is set aside, what becomes unknown, what is one woman's."
import json

import cv2, numpy as np, pandas as pd, pytest

from nlbs_cvae.core import InputError, rng
from nlbs_cvae.cache import Cache, prepare_cache
from nlbs_cvae.dicom import write_dicom

def breast(key, side='L'):
    "A half disc with tissue of its own, 8 bits."
    y, x = np.mgrid[-1:1:96j, 0:1:72j]
    thick = np.clip(1 - (y/.9)**2 - (x/.85)**2, 0, 1)
    cloud = cv2.GaussianBlur(rng(key).normal(0, 60, (96, 72)).astype(np.float32), (0, 0), 4)
    im = np.where(thick > 0, 120 + 60*thick + cloud, 0).clip(0, 255).astype(np.uint8)
    return im if side == 'L' else im[:, ::-1]

def archive(folder, women=6, dicom=False):
    "Images of two views of two sides, and the rows of their table."
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for w in range(women):
        for view in ('CC', 'MLO'):
            for side in 'LR':
                name, im = f'P{w}_{side}{view}' + ('.dcm' if dicom else '.png'), breast(f'{w}{view}{side}', side)
                if dicom: write_dicom(folder/name, im.astype(np.uint16)*16, laterality=side, view=view, patient_id=f'P{w}', study=f'P{w}', padding=(0, 9))
                else: cv2.imwrite(str(folder/name), im)
                rows.append(dict(file=name, subject=f'P{w}', view=view, laterality=side, cancer=str(w % 2)))
    return rows

def prepare(folder, rows, mapping='folder', cache='cache', **kwargs):
    "Write the table and prepare: the cache, its quarantine, findings and sources."
    pd.DataFrame(rows).to_csv(folder/'metadata.csv', index=False)
    made = prepare_cache(folder, mapping=str(mapping), resolution=32, workers=1, cache=folder.parent/cache, max_faults=.5, **kwargs)
    return made, *(pd.read_csv(made.path/'private'/f'{n}.csv', keep_default_na=False, dtype=str) for n in ('quarantine', 'findings', 'sources'))

def mapping(folder, text):
    "A user's mapping of the plain table."
    path = folder/'own.yaml'
    path.write_text("tables: [metadata.csv]\ncolumns: {path: file, patient: subject, view: view, laterality: laterality, cancer: cancer}\n"
                    "derive: {subject: {from: '{patient}'}}\n" + text)
    return path

def test_two_truths_and_two_women(tmp_path):
    "A label told in two ways is unknown; a file of two women is nobody's, and comes back when the table is mended."
    rows = archive(tmp_path/'a')
    told = [dict(rows[0], cancer='1'), dict(rows[5], subject='p1 '), dict(rows[8], subject='P5')]
    cache, faults, findings, sources = prepare(tmp_path/'a', [*rows, *told])
    assert (faults.path == rows[8]['file']).all() and list(faults.row) == ['9', '27'] and set(faults.reason) == {'two women'}
    assert set(sources.cancer[sources.path == rows[0]['file']]) == {''} and set(sources.cancer[sources.path == rows[5]['file']]) == {'1'}
    assert findings[findings.kind == 'rows that contradict'].detail.tolist() == ['cancer: 0 in row 1, 1 in row 25: unknown']
    assert findings[findings.kind == 'one woman spelt in several ways'].detail.tolist() == ["'P1', 'p1': one woman"]
    assert cache.table.subject.nunique() == 6 and len(cache) == 25
    again, faults, *_ = prepare(tmp_path/'a', rows, renew=True)
    assert len(faults) == 0 and len(again) == 24

def test_a_header_says_more_than_the_mapping(tmp_path):
    "One spot view among screening images is set aside, by a table and without one; the others are prepared."
    rows = archive(tmp_path/'a', dicom=True)
    for k, view in (3, 'ML'), (10, 'XCCL'):
        write_dicom(tmp_path/'a'/rows[k]['file'], breast(f'odd{k}', 'R').astype(np.uint16)*16, laterality=rows[k]['laterality'], view=view, patient_id=rows[k]['subject'],
                    study=rows[k]['subject'], padding=(0, 9))
        rows[k]['view'] = ''
    rows[5]['view'] = ''
    for name in 'folder', 'headers':
        cache, faults, *_ = prepare(tmp_path/'a', rows, name, name)
        assert sorted(faults.path) == sorted(rows[k]['file'] for k in (3, 10)) and set(faults.reason) == {'not declared'} and 'XCCL' in ''.join(faults.detail)
        assert len(cache) == 22 and set(cache.table['view']) == {'CC', 'MLO'}

def test_several_files_of_one_row(tmp_path):
    "Quarantine and findings name the file, not another one of the same row; nobody gets another's files."
    for w in 'D[12]', 'D1', 'D2':
        for i, (view, side) in enumerate([('CC', 'L'), ('MLO', 'L'), ('CC', 'R'), ('CC', 'R')]):
            path = tmp_path/'a'/'CMMD'/w/'s'/f'{i}.dcm'
            path.parent.mkdir(parents=True, exist_ok=True)
            write_dicom(path, breast(f'{w}{i}', side).astype(np.uint16)*16, laterality=side, view=view, patient_id=w, padding=(0, 9))
        for junk in '._0.dcm', 'Thumbs.db': (path.parent/junk).write_bytes(b'\0\5\x16\7' + bytes(60))
    (tmp_path/'a'/'CMMD'/'D1'/'s'/'1.dcm').write_bytes((tmp_path/'a'/'CMMD'/'D1'/'s'/'1.dcm').read_bytes()[:900])
    table = [dict(ID1=w, LeftRight=s, Age='50', classification='Benign') for w in ('D[12]', 'D1', 'D2') for s in 'LR']
    pd.DataFrame(table).to_csv(tmp_path/'a'/'CMMD_clinicaldata_revision.csv', index=False)
    cache, faults, findings, sources = prepare(tmp_path/'a', [dict(x='1')], 'cmmd')
    assert list(faults.path) == ['CMMD/D1/s/1.dcm'] and len(cache) == len(set(sources.path)) == 11
    assert all(p.split('/')[1] == s for p, s in zip(sources.path, sources.subject))
    repeats = findings[findings.kind == 'repeat of a view']
    assert len(findings) == len(set(zip(findings.kind, findings.path))) and sorted(repeats.path) == [f'CMMD/{w}/s/3.dcm' for w in ('D1', 'D2', 'D[12]')]

def test_a_side_that_is_none(tmp_path):
    "Where the side is no condition the image stays, turned as its pixels or its header say; where it is, the mapping decides."
    rows = archive(tmp_path/'a')
    for k, side in (0, 'B'), (5, 'bilateral'), (9, 'sin'): rows[k]['laterality'] = side
    cache, faults, findings, _ = prepare(tmp_path/'a', rows, mapping(tmp_path, 'conditions: {view: [CC, MLO]}\n'))
    assert len(cache) == 24 and not len(faults) and (findings.kind == 'side not understood').sum() == 3
    sided = 'conditions: {laterality: [L, R]}\n'
    with pytest.raises(InputError, match=r"row 1: laterality: 'B'.*missing.laterality.*keep.laterality"): prepare(tmp_path/'a', rows, mapping(tmp_path, sided), 'no')
    cache, *_ = prepare(tmp_path/'a', rows, mapping(tmp_path, sided + 'missing: {laterality: [b, Bilateral, SIN]}\n'), 'unknown')
    assert len(cache) == 24 and (cache.table.laterality == '').sum() == 3
    cache, *_ = prepare(tmp_path/'a', rows, mapping(tmp_path, sided + 'keep: {laterality: [l, r]}\n'), 'kept')
    assert len(cache) == 21 and 'left out: 3 of 24 rows, by keep (laterality)' in cache.about['notes']

def test_ids_that_only_zeros_hold_apart(tmp_path):
    "They stay different women, are named together, and are on one side; what was assigned once stays."
    names = [f'{w}{k}' for k in range(1, 9) for w in ('P', 'P00')]
    rows = [dict(r, subject=names[i//4]) for i, r in enumerate(archive(tmp_path/'a', women=16))]
    cache, _, findings, sources = prepare(tmp_path/'a', rows)
    said = findings[findings.kind == 'ids that may be one woman'].detail
    assert len(said) == 8 and cache.table.subject.nunique() == 16 and "'P001', 'P1': counted as 2 women" in said.iloc[0]
    split = sources.groupby('subject')['split'].first()
    assert all(split[f'P{k}'] == split[f'P00{k}'] for k in range(1, 9)) and set(split) == {'train', 'valid', 'test'}
    record = cache.path/'private'/'splits.csv' # of an earlier version
    pd.DataFrame(dict(subject=names, split=['test', 'train']*8)).to_csv(record, index=False)
    *_, sources = prepare(tmp_path/'a', rows[::-1], renew=True)
    assert all(sources['split'] == sources.subject.map(dict(zip(names, ['test', 'train']*8))))

def test_constants_travel(tmp_path, capsys):
    "What all images have stands in the cache and with the conditions; columns that nothing uses are named."
    rows = [dict(r, reader='x') for r in archive(tmp_path/'a') if r['view'] == 'MLO']
    cache, _, findings, _ = prepare(tmp_path/'a', rows, mapping(tmp_path, 'conditions: {cancer: [0, 1]}\nconstants: {view: mlo}\n'))
    assert "columns that nothing uses: 'reader'" in capsys.readouterr().out and 'fewer than four views' not in set(findings.kind)
    assert json.loads((cache.path/'cache.json').read_text())['conditions']['constants'] == {'view': 'MLO'}
    assert Cache(cache.path).conditions.constants == cache.under(['cancer']).conditions.constants == {'view': 'MLO'}
    assert set(cache.table['view']) == {'MLO'}

def test_women_who_are_not_told_apart(tmp_path):
    rows = archive(tmp_path/'a')
    for name, ids in ('each', [f'I{i}' for i in range(24)]), ('all', ['I']*24):
        *_, findings, _ = prepare(tmp_path/'a', [dict(r, subject=i) for r, i in zip(rows, ids)], cache=name)
        assert (findings.kind == 'women not told apart').sum() == 1

def test_an_earlier_split_under_another_spelling(tmp_path, capsys):
    "Whatever the record says, a woman is on one side."
    rows = archive(tmp_path/'a', women=8)
    cache, *_ = prepare(tmp_path/'a', rows)
    record = cache.path/'private'/'splits.csv'
    splits = pd.read_csv(record, dtype=str)
    split = dict(zip(splits.subject, splits['split']))
    splits = pd.concat([splits, pd.DataFrame([dict(subject=s.lower(), split='train' if split[s] == 'test' else 'test') for s in splits.subject])])
    splits.to_csv(record, index=False)
    capsys.readouterr()
    _, _, _, sources = prepare(tmp_path/'a', [dict(r, subject=r['subject'].lower() if i % 2 else r['subject']) for i, r in enumerate(rows)], renew=True)
    assert '8 women stood in two splits' in capsys.readouterr().out
    seen = sources.groupby(sources.subject.str.casefold())['split'].agg(set)
    assert len(seen) == 8 and all(len(s) == 1 for s in seen)
    assert all(seen[s.casefold()] == {'valid' if split[s] == 'valid' else 'train'} for s in split)
