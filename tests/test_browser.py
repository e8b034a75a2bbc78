"The explorer in a real browser: JupyterLab and voila, controls moved, the image seen to change, the export found on disk."
from pathlib import Path

import nbformat, pandas as pd, pytest
from PIL import Image

from browser import browser, explorer_page, jupyter_lab
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.needs('browser'), pytest.mark.timeout(600)] # for a crowded machine; a quiet one needs a minute

@pytest.fixture(scope='module')
def served(tiny_run, tmp_path_factory):
    "The page's address and the folder it exports to."
    cwd = tmp_path_factory.mktemp('page')
    with explorer_page(tiny_run, cwd/'out', cwd) as url: yield url, cwd/'out'

def ready(page):
    "The explorer, open, refined, its directions found."
    page.status('Directions from')
    return page.final()

def move_everything(page):
    "Each control changes the refined image that the browser shows."
    before = ready(page)
    def shown(words):
        nonlocal before
        page.final(words)
        before = page.changed(before)
    page.click('.nlbs-draw')
    shown('seed 1\n')
    page.slide('direction-0', Keys.ARROW_RIGHT*15)
    shown('direction 1 at')
    page.choose('condition-view', 'MLO')
    shown('view=MLO')
    page.slide('walk', Keys.END)
    shown('100% of the way')
    page.slide('window', Keys.PAGE_DOWN*4)
    page.changed(before)
    assert 'synthetic' in page.one('.nlbs-caption').text

def only_here(page, url):
    "Nothing was fetched from elsewhere: what isn't the server's was refused by the browser."
    host, logs = url.split('/')[2], page.driver.get_log('browser')
    foreign = {u for u in page.asked() if u.split('/')[2] != host}
    assert not [u for u in foreign if not any(u.replace('^', '%5E') in o['message'] and 'violates' in o['message'] for o in logs)]

def test_page_through_voila(served, tmp_path):
    url, out = served
    with browser(tmp_path) as page:
        page.driver.get(url)
        move_everything(page)
        only_here(page, url)

        page.tab('Every condition')
        page.click('.nlbs-every')
        page.status('One condition changed')
        assert len(page.all('.nlbs-every-shown img')) > 8
        page.tab('Compare')
        page.click('.nlbs-compare')
        page.status('look most like')
        assert 'private' in (text := page.one('.nlbs-compare-shown').text) and 'REAL' in text

        page.tab('Basket')
        page.click('.nlbs-keep')
        page.status('1 in the basket')
        page.click('.nlbs-keep')
        page.status('in the basket already')
        page.fill('.nlbs-folder', '/dev/null/below')
        page.click('.nlbs-export')
        page.status("/dev/null/below: can't be written to")
        page.fill('.nlbs-folder', out)
        page.click('.nlbs-export')
        page.status('1 synthetic images in')
        df = pd.read_csv(out/'manifest.csv')
        assert df.synthetic.tolist() == ['yes'] and df['view'].tolist() == ['MLO']
        assert Image.open(out/df.file[0]).text['Synthetic'] == 'yes'

def test_a_browser_closed_in_the_middle_of_a_draw(served, tmp_path):
    url, _ = served
    with browser(tmp_path) as page:
        page.driver.get(url)
        ready(page)
        page.tab('Walk')
        page.click('.nlbs-strip')
    with browser(tmp_path) as page: # the server lives, and another page begins afresh
        page.driver.get(url)
        x = ready(page)
        page.click('.nlbs-draw')
        page.changed(x)

def test_a_stranger_sees_nothing(served, tmp_path):
    url, _ = served
    with browser(tmp_path) as page:
        page.driver.get(url.partition('?')[0])
        assert not page.all('.nlbs-image') and 'login' in page.driver.current_url

def test_other_models_and_bad_ones(served, tiny_run, tmp_path):
    from nlbs_cvae.prior import Generator
    g = Generator.from_pretrained(tiny_run/'model')
    Generator(g.model, None, g.conditions, g.meta).save(tmp_path/'unfinished')
    with browser(tmp_path) as page:
        page.driver.get(served[0])
        ready(page)
        page.fill('.nlbs-model', tmp_path/'nothing')
        page.click('.nlbs-open')
        page.status('no model here')
        page.fill('.nlbs-model', tmp_path/'unfinished')
        page.click('.nlbs-open')
        page.status('This model has no prior')
        page.fill('.nlbs-model', 'cbis_64') # of another size, with other conditions
        page.click('.nlbs-open')
        page.status('came without its run folder')
        page.choose('condition-density', '4')
        page.final('density=4')
        assert page.pixels().shape == (64, 64) and not page.all('.nlbs-condition-age')

def begun(page):
    "Run the first cell unless it runs; a keystroke that comes before JupyterLab has its kernel is lost."
    if page.seen('.jp-CodeCell .jp-InputPrompt').text != '[ ]:': return True
    page.seen('.jp-Notebook-ExecutionIndicator[data-status=idle]')
    page.seen('.jp-CodeCell .cm-content').click()
    page.seen('.jp-CodeCell .cm-content').send_keys(Keys.SHIFT, Keys.ENTER)

def test_in_jupyterlab(tiny_run, tmp_path):
    cell = nbformat.v4.new_code_cell(f'from nlbs_cvae.explorer import Explorer\nExplorer({str(tiny_run)!r})')
    kernel = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), tmp_path/'mine.ipynb')
    with jupyter_lab(tmp_path, tmp_path) as url, browser(tmp_path) as page:
        page.driver.get(url.replace('/lab?', '/lab/tree/mine.ipynb?'))
        page.until(lambda: begun(page), 'the cell to run')
        move_everything(page)
        only_here(page, url)
