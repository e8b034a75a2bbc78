"The explorer in a real browser: JupyterLab and voila, controls moved, the image seen to change, the export found on disk."
import shutil, subprocess, urllib.error, urllib.request
from dataclasses import replace
from pathlib import Path

import nbformat, numpy as np, pandas as pd, pytest
from PIL import Image

from browser import browser, explorer_page, jupyter_lab
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.needs('browser'), pytest.mark.timeout(600)] # for a crowded machine; a quiet one needs a minute

@pytest.fixture(scope='module')
def served(tiny_run, tmp_path_factory):
    "The page's address and the folder it exports to."
    cwd = tmp_path_factory.mktemp('page')
    with explorer_page(tiny_run, cwd/'out', cwd, '--no_browser', '--real', '--models', cwd/'models') as url: yield url, cwd/'out'

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
        for bad in ('/dev/null/below', out.parent/'out2', '../x'): # elsewhere
            page.fill('.nlbs-folder', bad)
            page.click('.nlbs-export')
            page.status(f"{bad if bad == '../x' else Path(bad).name}: this page was started to export below") # without folders
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

def opened(url):
    "What a server answers to somebody without the token: status, text."
    try:
        with urllib.request.urlopen(url) as o: return o.status, o.read().decode(errors='replace')
    except urllib.error.HTTPError as e: return e.code, ''

def test_no_files_and_no_kernels_for_anybody(served):
    "Pictures that lie beside the page's notebook, kernels and their sockets."
    host = served[0].partition('/?')[0]
    for path in ('voila/files/explore.ipynb', 'voila/files/guides/results/x.png', 'voila/files/..%2fresults%2fx.png', 'files/x.png', 'api/kernels', 'api/contents',
                 f'api/kernels/{"0"*8}-0000-0000-0000-{"0"*12}', 'voila/tree', 'api/sessions', 'terminals/1'):
        status, text = opened(f'{host}/{path}')
        assert status in (403, 404, 405) or 'Password or token' in text or 'login' in text, path

def test_the_light_box_follows_the_hand(tmp_path):
    "Four views of the woman at hand, or those that an opened image lacks; a model of single images has none, and says so."
    import torch
    from nlbs_cvae.figures import save_png, to_uint
    from nlbs_cvae.phantom import phantom_image
    from test_generation import untrained
    gen, alone = untrained((9, 9, 0), exams=True), untrained()
    for name, w in gen.prior.named_parameters():
        if w.ndim > 1 and name.startswith(('z_net', 'context', 'u_net.end')): torch.nn.init.normal_(w, std=.1)
    gen.save(tmp_path/'exams'), alone.save(tmp_path/'alone')
    save_png(tmp_path/'images'/'hers.png', to_uint(phantom_image(3, 'MLO', 'L', 60, size=gen.resolution)[0]*2 - 1, 16), dict(Synthetic='yes', Conditions='view=MLO, laterality=L'))
    page_args = '--no_browser', '--models', tmp_path, '--images', tmp_path/'images'
    with explorer_page(tmp_path/'exams', tmp_path/'out', tmp_path, *page_args) as url, browser(tmp_path) as page:
        page.driver.get(url)
        stage = ready(page)
        page.tab('Light box')
        page.says('.nlbs-light-box-says [data-state=final]', 'R_CC, L_CC, R_MLO, L_MLO')
        box = page.pixels('light-box')
        h, w = stage.shape
        assert box.shape == (2*h, 2*w) and abs(box[:h, :w] - page.pixels()).max() <= 1 # the stage's woman is the right CC; in another batch, rounded otherwise
        page.click('.nlbs-draw')
        box = page.changed(box, 'light-box')
        page.slide('walk', Keys.END)
        page.changed(box, 'light-box')
        page.tab('An image')
        page.fill('.nlbs-file', 'hers.png')
        page.click('.nlbs-open-image')
        page.until(lambda: page.all('.nlbs-four img'), 'the image')
        page.tab('Light box')
        page.click('.nlbs-give-opened')
        page.says('.nlbs-light-box-says [data-state=final]', 'L_MLO (synthetic)\nsynthetic, drawn after what is given: R_CC, L_CC, R_MLO')
        box = page.pixels('light-box')
        assert (box[h, w:] == 255).all() # its frame
        page.click('.nlbs-draw')
        other = page.changed(box, 'light-box')
        assert (other[h:, w:] == box[h:, w:]).all() and (other[:h, :w] != box[:h, :w]).any()
        page.click('.nlbs-let-go')
        page.until(lambda: 'given' not in page.seen('.nlbs-light-box-says').text, 'the woman at hand')
        page.fill('.nlbs-model', tmp_path/'alone')
        page.click('.nlbs-open')
        page.status('draws single images')
        assert 'Light box' not in [o.text for o in page.all('.nlbs-tabs li')]

EVIL = '<img/src="x"onerror="window.taken=1"><script>window.taken=1</script>' # without spaces, which a dropdown shows as others

def test_strangers_model_and_nobody_real(tiny_run, tmp_path):
    "Values of conditions are text, not HTML; without --real no real woman is shown; other hosts' names are refused; no address in a command line."
    from nlbs_cvae.generator import Generator
    g, browsing = Generator.from_pretrained(tiny_run/'model'), tmp_path/'browser'
    g.conditions.items = tuple(replace(c, values=(EVIL, *c.values[1:]), edges=()) if i == 0 else c for i, c in enumerate(g.conditions))
    g.save(tmp_path/'evil')
    browsing.write_text(f'#!/bin/sh\nprintf "%s" "$*" > {tmp_path}/asked.part && mv {tmp_path}/asked.part {tmp_path}/asked\n')
    browsing.chmod(0o755)
    with explorer_page(tmp_path/'evil', tmp_path/'out', tmp_path, '--real', BROWSER=f'{browsing} %s') as url, browser(tmp_path) as page:
        page.until(lambda: (tmp_path/'asked').exists(), 'a browser to be called')
        asked, token = (tmp_path/'asked').read_text(), url.partition('token=')[2]
        lead = Path(urllib.request.url2pathname(asked.removeprefix('file://')))
        assert token not in asked and token in lead.read_text() and lead.stat().st_mode & 0o077 == 0 == lead.parent.stat().st_mode & 0o077
        commands = subprocess.run(['ps', '-eo', 'args', 'ww'], capture_output=True, text=True).stdout if shutil.which('ps') else ''
        assert token not in commands
        page.driver.get(asked)
        ready(page)
        options = [o.get_property('textContent') for o in page.all('.nlbs-condition-view option')]
        assert EVIL in options
        page.choose('condition-view', EVIL)
        page.final('onerror')
        page.tab('Every condition')
        page.click('.nlbs-every')
        page.status('One condition changed')
        assert page.driver.execute_script('return window.taken') is None
    with explorer_page(tiny_run, tmp_path/'out', tmp_path) as url, browser(tmp_path) as page:
        page.driver.get(url)
        ready(page)
        page.tab('Compare')
        page.click('.nlbs-compare')
        page.status('look most like')
        assert 'not shown' in page.one('.nlbs-compare-shown').text and len(page.all('.nlbs-compare-shown img')) == 1
        page.driver.get(url.replace('127.0.0.1', 'localhost'))
        ready(page)

def test_other_models_and_bad_ones(served, tiny_run, tmp_path):
    from nlbs_cvae.generator import Generator
    g = Generator.from_pretrained(tiny_run/'model')
    models = served[1].parent/'models'
    Generator(g.model, None, g.conditions, g.meta).save(models/'unfinished')
    (models/'away').symlink_to(tmp_path)
    g.save(tmp_path/'mine')
    with browser(tmp_path) as page:
        page.driver.get(served[0])
        ready(page)
        for bad in (tmp_path/'mine', models/'away'/'mine', tmp_path/'nothing'): # elsewhere, there or not
            page.fill('.nlbs-model', bad)
            page.click('.nlbs-open')
            page.status(f'{bad.name}: this page was started for models in')
        page.fill('.nlbs-model', models/'nothing')
        page.click('.nlbs-open')
        page.status('no model here')
        page.fill('.nlbs-model', models/'unfinished')
        page.click('.nlbs-open')
        page.status('This model has no prior')
        page.fill('.nlbs-model', 'cbis_256') # of another size, with other conditions
        page.click('.nlbs-open')
        page.status('came without its run folder')
        page.choose('condition-density', '4')
        page.final('density=4')
        assert page.pixels().shape == (256, 256) and not page.all('.nlbs-condition-age')

def test_an_image_is_opened_changed_and_exported(tiny_run, tmp_path):
    "From the folder that the page was started for; a real woman's, or what says nothing, is refused without --allow_real_sources."
    from nlbs_cvae.figures import save_png, to_uint
    from nlbs_cvae.generator import Generator
    from nlbs_cvae.phantom import phantom_image
    size = Generator.from_pretrained(tiny_run/'model').resolution
    x = to_uint(phantom_image(3, 'MLO', 'L', 60, size=size)[0]*2 - 1, 16)
    save_png(tmp_path/'images'/'drawn.png', x, dict(Synthetic='yes', Conditions='view=MLO, laterality=L'))
    save_png(tmp_path/'images'/'hers.png', x)
    with explorer_page(tiny_run, tmp_path/'out', tmp_path, '--no_browser', '--images', tmp_path/'images') as url, browser(tmp_path) as page:
        page.driver.get(url)
        ready(page)
        page.tab('An image')
        def opened(name):
            page.fill('.nlbs-file', name)
            page.click('.nlbs-open-image')
        opened('../server.log')
        page.status('server.log: this page was started for images below')
        opened('hers.png')
        page.status('--allow_real_sources')
        assert not page.all('.nlbs-four img')
        opened('drawn.png')
        page.until(lambda: len(page.all('.nlbs-four img')) == 1, 'the image')
        page.choose('to-view', 'CC')
        page.says('.nlbs-four', 'view MLO to CC; from a synthetic image')
        page.until(lambda: len(page.all('.nlbs-four img')) == 4, 'image, what is kept, counterfactual, difference')
        before = page.one('.nlbs-four').get_attribute('innerHTML')
        page.choose('to-laterality', 'R')
        page.says('.nlbs-four', 'laterality L to R')
        assert page.one('.nlbs-four').get_attribute('innerHTML') != before
        page.choose('to-laterality', 'as it is')
        page.click('.nlbs-export-image')
        page.status('counterfactual of a synthetic image: view MLO to CC')
    df = pd.read_csv(tmp_path/'out'/'changed'/'manifest.csv')
    assert df['view'].tolist() == ['CC'] and df.synthetic.tolist() == ['yes'] and Image.open(tmp_path/'out'/'changed'/df.file[0]).text['Source'] == 'synthetic'

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
