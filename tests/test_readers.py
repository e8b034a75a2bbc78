"A reader study in a real browser: three readers, a break, zoom and keys, no key in sight; and the analysis of what they said."
import json, re, subprocess, sys, urllib.request
from types import SimpleNamespace

import numpy as np, pandas as pd, pytest
from nlbs_cvae.figures import save_png, to_uint
from nlbs_cvae.measure import read_metrics
from nlbs_cvae.readings import add_readings

pytestmark = [pytest.mark.needs('browser'), pytest.mark.timeout(600)]
N = 12

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "An archive of pictures with a table, a folder of samples, and where the study will be."
    here, g = tmp_path_factory.mktemp('readers'), np.random.default_rng(0)
    for folder, mean in (('archive', .2), ('samples', -.2)):
        for i in range(N):
            y, x = np.mgrid[:64, :64]/64
            breast = np.where((y - .5)**2 + x**2 < .2, mean + .1*g.normal(size=(64, 64)), -1)
            save_png(here/folder/f'{i:02d}.png', to_uint(breast))
    pd.DataFrame(dict(file=[f'{i:02d}.png' for i in range(N)], patient=[f'w{i}' for i in range(N)], laterality='L', view='CC')).to_csv(here/'archive'/'metadata.csv', index=False)
    return here

def command(place, *more): # with the interpreter at hand, whatever is installed
    script = place/'nlbs_readers'
    script.write_text('from nlbs_cvae.readers import nlbs_readers\n\nif __name__ == "__main__": nlbs_readers()\n')
    return [sys.executable, script, place/'samples', place/'archive', place/'study', '--images', N, '--mapping', 'folder', '--seed', 3, *more]

@pytest.fixture(scope='module')
def url(place):
    from browser import free_port, server
    with server(command(place, '--no_browser', '--port', free_port()), r'http://127\.0\.0\.1:\d+/\?token=\w+', place) as url: yield url

def truth(place): return json.loads((place/'study_key'/'key.json').read_text())['synthetic']

def begin(page, url, name):
    page.driver.get(url)
    page.fill('.nlbs-reader', name)
    page.click('.nlbs-begin')
    page.one('.nlbs-image')

def read(page, place, name, n, answer):
    "Answer `n` images by keys: what the screen shows is known from the answers that are still missing."
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    file = place/'study'/'answers'/f'{name}.csv'
    for _ in range(n):
        known = list(pd.read_csv(file).image) if file.exists() else []
        done, key = len(known), answer(shown(page, place, known))
        ActionChains(page.driver).send_keys(key, '3', 'b').perform()
        page.until(lambda: not page.driver.find_element('css selector', '.nlbs-next').get_property('disabled'), 'Next')
        ActionChains(page.driver).send_keys(Keys.ENTER).perform()
        page.until(lambda: file.exists() and len(pd.read_csv(file)) == done + 1, 'the answer on the disk')
        page.says('.nlbs-progress', f'{done + 1} of {N}')

def shown(page, place, known):
    "The file of the image that the browser shows, once it is one that wasn't read yet: the screen may lag behind."
    from PIL import Image
    files = {np.asarray(Image.open(p)).tobytes(): p.name for p in (place/'study'/'images').glob('*.png') if p.name not in known}
    return page.until(lambda: files.get(page.pixels().astype(np.uint8).tobytes()), 'an image of the study')

def test_three_readers(url, place, tmp_path):
    from browser import browser
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    known = truth(place)
    right, wrong = (lambda name: 's' if known[name] else 'r'), (lambda name: 'r' if known[name] else 's')
    with browser(tmp_path) as page: # reads half, looks closer, and goes away
        begin(page, url, 'Anna')
        before = page.pixels()
        width = page.one('.nlbs-image').size['width']
        ActionChains(page.driver).send_keys('+').perform()
        page.until(lambda: page.one('.nlbs-image').size['width'] > 1.3*width, 'a larger image')
        assert abs(page.one('.nlbs-image').size['height'] - page.one('.nlbs-image').size['width']) < 3
        page.slide('window', Keys.PAGE_DOWN*4)
        page.changed(before)
        page.driver.find_element('css selector', 'body').click()
        page.slide('window', Keys.END)
        read(page, place, 'anna', N//2, right)
    with browser(tmp_path) as page: # another day
        begin(page, url, 'anna')
        page.status(f'{N//2} of {N} read')
        read(page, place, 'anna', N//2, right)
        page.status('Thank you')
        page.driver.get(url)
        page.fill('.nlbs-reader', '../bert')
        page.click('.nlbs-begin')
        page.status('becomes a file')
    with browser(tmp_path) as page:
        begin(page, url, 'bert')
        read(page, place, 'bert', N, wrong)
        source = page.driver.page_source + str(page.asked())
        for secret in ('study_key', 'key.json', 'reading.json', str(place/'samples')): assert secret not in source
    with browser(tmp_path) as page:
        begin(page, url, 'carl')
        read(page, place, 'carl', 5, lambda name: 'r')
    orders = pd.concat([pd.read_csv(p).assign(reader=p.stem) for p in (place/'study'/'answers').glob('*.csv')])
    assert orders.groupby('reader').size().to_dict() == dict(anna=N, bert=N, carl=5)
    assert list(orders[orders.reader == 'anna'].image) != list(orders[orders.reader == 'bert'].image)
    assert (orders.density == 'B').all() and (orders.seconds > 0).all() and (orders.confidence == 3).all()

def test_no_file_is_served(url):
    host, _, token = url.partition('/?token=')
    for path in ('voila/files/study_key/key.json', 'voila/files/study/images/001.png', 'files/study.json', 'voila/files/..%2fstudy_key%2fkey.json', 'api/contents/study_key/key.json'):
        try:
            with urllib.request.urlopen(f'{host}/{path}?token={token}') as o: text = o.read()
        except urllib.error.HTTPError as e: text = e.read()
        assert b'"synthetic"' not in text and not text.startswith(b'\x89PNG'), path

def test_the_study_holds_no_key(place, url):
    "Neither its files nor their dates, names or sizes in bytes say what is what; nor does the page's environment."
    known, files = truth(place), sorted((place/'study').rglob('*'))
    assert not [p for p in files if re.search('key|reading|synthetic|real', p.name)]
    for p in (p for p in files if p.is_file() and p.suffix != '.csv'): assert not re.search(rb'study_key|ynthetic|samples|archive', p.read_bytes()), p
    assert len({p.stat().st_mtime for p in (place/'study'/'images').iterdir()}) == 1
    assert list(known.values()) != sorted(known.values()) and (place/'study_key').stat().st_mode & 0o077 == 0

def test_the_analysis(place, url):
    done = subprocess.run([str(o) for o in command(place, '--analyse')], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scores = read_metrics(place/'study_key'/'reading.json')
    assert (scores['reader 1']['auc'].value, scores['reader 2']['auc'].value, scores['reader 3']['images'].value) == (1, 0, 5)
    assert scores['all readers']['auc'].low < scores['all readers']['auc'].high and 'reader 1: AUC 1' in done.stdout
    assert 'anna' not in (place/'study_key'/'reading.json').read_text() + done.stdout
    report = SimpleNamespace(scores={}) # as nlbs_evaluate --readers takes it
    add_readings(report, place/'study_key'/'reading.json')
    assert report.scores['reader_scores'] == scores

def test_another_question_is_refused(place, url):
    for more, word in ((('--images', N + 2), 'a study of 12 images'), (('--seed', 4), 'another seed'), (('--key', place), "the key isn't here")):
        done = subprocess.run([str(o) for o in command(place, *more, '--no_page')], capture_output=True, text=True)
        assert done.returncode == 1 and word in done.stderr and 'Traceback' not in done.stderr, (more, done.stderr)
    save_png(place/'samples'/'00.png', np.zeros((64, 64), np.uint8)) # other samples under the same names
    save_png(place/'samples'/'01.png', np.full((64, 64), 9, np.uint8))
    for i in range(2, N): save_png(place/'samples'/f'{i:02d}.png', np.full((64, 64), 9*i, np.uint8))
    done = subprocess.run([str(o) for o in command(place, '--no_page')], capture_output=True, text=True)
    assert done.returncode == 1 and 'begun with other images (synthetic)' in done.stderr, done.stderr
