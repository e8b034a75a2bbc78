"A real browser for tests: the system's Chromium, without a window, with a fresh profile; and the servers it looks at."
import base64, io, os, re, shutil, socket, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from selenium.common.exceptions import NoSuchElementException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run', '--disable-sync',
         '--disable-background-networking', '--disable-component-update', '--window-size=1500,1300')

# what an <img> shows, drawn on a canvas, once its newest address is read: its pixels
PIXELS = """const [im, done] = arguments, c = document.createElement('canvas');
im.decode().then(() => { c.width = im.naturalWidth; c.height = im.naturalHeight; c.getContext('2d').drawImage(im, 0, 0);
                         done(c.toDataURL('image/png')) }, () => done(''))"""

class Page:
    "A page of the explorer, with the words that its tests need."
    def __init__(self,
        driver,
        patience=240, # seconds that a thing may take on a busy machine
    ): self.driver, self.patience = driver, patience

    def until(self,
        what,  # to become true; it doesn't wait itself
        words, # what it is, for the one who reads that it never was
    ):
        "Wait for something and give it; what isn't there yet, or was replaced meanwhile, is looked for again."
        return WebDriverWait(self.driver, self.patience, .1, (WebDriverException, OSError)).until(lambda _: what(), f'waited in vain for {words}')

    def all(self, css): return self.driver.find_elements(By.CSS_SELECTOR, css)
    def seen(self, css):
        if found := next((o for o in self.all(css) if o.is_displayed()), None): return found
        raise NoSuchElementException(css)
    def one(self, css): return self.until(lambda: self.seen(css), css)
    def says(self, css, words): return self.until(lambda: words in self.seen(css).text, f'{css} that says: {words}')
    def status(self, words): return self.says('.nlbs-status', words)

    def pixels(self, name='image')->np.ndarray:
        "The grey values that the browser shows."
        im = self.driver.find_element(By.CSS_SELECTOR, f'img.nlbs-{name}, .nlbs-{name} img')
        if not (url := self.driver.execute_async_script(PIXELS, im)): raise WebDriverException(f'{name}: another image is coming')
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(',')[2]))).convert('L'), int)

    def changed(self,
        before, # pixels
        name='image', # or 'light-box'
    )->np.ndarray:
        "The image, as soon as it is another."
        def other():
            now = self.pixels(name)
            return (now,) if now.shape != before.shape or (now != before).any() else None
        return self.until(other, 'another image')[0]

    def final(self, words='')->np.ndarray:
        "The image, once it is refined and its caption says this."
        self.says('.nlbs-caption [data-state=final]', words)
        return self.until(lambda: (self.pixels(),), 'an image')[0]

    def click(self, css):
        "Press a button once it can be pressed."
        def press():
            o = self.driver.find_element(By.CSS_SELECTOR, css)
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", o)
            o.click()
            return True
        self.until(press, f'{css} to be pressed')

    def slide(self, name, keys):
        "Move a slider by arrow keys, as a hand does."
        handle = self.one(f'.nlbs-{name} .noUi-handle')
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
        handle.send_keys(keys)

    def fill(self, css, value):
        "Write into a text field and leave it."
        field = self.one(f'{css} input')
        field.send_keys(Keys.CONTROL, 'a')
        field.send_keys(str(value), Keys.TAB)

    def choose(self, name, label):
        "Choose from a dropdown."
        Select(self.one(f'.nlbs-{name} select')).select_by_visible_text(label)

    def tab(self, title): self.click(f".nlbs-tabs li[id]:nth-child({['Every condition', 'Walk', 'Compare', 'Basket', 'An image', 'Light box'].index(title) + 1})")

    def asked(self):
        "Addresses that the page asked for, the browser's own aside."
        found = self.driver.execute_script("return performance.getEntriesByType('resource').map(o => o.name)")
        return [u for u in [self.driver.current_url, *found] if u.startswith(('http', 'ws'))]

def free_port()->int:
    "A port of loopback that nobody listens on."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

@contextmanager
def browser(
    folder, # where a failure leaves what was on the screen and in the console
):
    "Chromium with a profile of its own, gone afterwards."
    home, options = tempfile.mkdtemp(prefix='nlbs-browser-'), ChromeOptions()
    options.binary_location = shutil.which('chromium')
    for flag in (*FLAGS, f'--user-data-dir={home}'): options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', dict(browser='ALL'))
    driver = Chrome(options=options, service=Service(shutil.which('chromedriver')))
    driver.set_page_load_timeout(120)
    try: yield Page(driver)
    except BaseException:
        driver.save_screenshot(str(Path(folder)/'screen.png'))
        Path(folder, 'console.txt').write_text('\n'.join(o['message'] for o in driver.get_log('browser')))
        raise
    finally:
        driver.quit()
        shutil.rmtree(home, ignore_errors=True)

@contextmanager
def server(
    args,     # of the command
    pattern,  # of the address, as it says it on the terminal
    cwd,      # where it runs; its log lies there
    **env,
):
    "A server in a process of its own: the address that it says, until the block ends."
    log = Path(cwd)/'server.log'
    private = {k: str(Path(cwd)/k.lower()) for k in ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'IPYTHONDIR')}
    env = {**os.environ, **private, **env, 'PYTHONUNBUFFERED': '1'}
    with open(log, 'w') as f:
        process = subprocess.Popen([str(a) for a in args], cwd=cwd, env=env, stdout=f, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        end = time.time() + 120
        while not (found := re.search(pattern, log.read_text())):
            assert process.poll() is None and time.time() < end, log.read_text()[-3000:]
            time.sleep(.2)
        yield found.group(0)
    finally:
        process.terminate()
        try: process.wait(20)
        except subprocess.TimeoutExpired: process.kill()
        process.wait()

def explorer_page(model, out, cwd, *more, **env):
    "The explorer through voila, as nlbs_explore starts it."
    command = [Path(sys.executable).with_name('nlbs_explore'), model, '--out', out, '--port', free_port(), *(more or ['--no_browser'])]
    return server(command, r'http://127\.0\.0\.1:\d+/\?token=\w+', cwd, **env)

def jupyter_lab(folder, cwd):
    "JupyterLab on a folder; no news, no extension manager, nothing fetched."
    command = [sys.executable, '-m', 'jupyterlab', folder, '--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={free_port()}',
               '--LabApp.news_url=None', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', '--LabApp.extension_manager=readonly']
    return server(command, r'http://127\.0\.0\.1:\d+/lab\?token=\w+', cwd)
