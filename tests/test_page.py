"The explorer's page without a browser: what it answers to somebody with another name for it, without its token, or from another site's page."
import json, re, socket, struct, uuid
from http.client import HTTPConnection

import pytest

from browser import explorer_page

pytestmark = pytest.mark.timeout(600)
KERNEL = r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'

@pytest.fixture(scope='module')
def page(tiny_run, tmp_path_factory):
    "Host and port, the token, and the folder in which it runs."
    cwd = tmp_path_factory.mktemp('page')
    with explorer_page(tiny_run, cwd/'out', cwd, '--no_browser') as url: yield url.split('/')[2], url.partition('token=')[2], cwd

def asked(page, path, method='GET', **headers):
    "What the page answers: status, headers, text."
    connection = HTTPConnection(page[0], timeout=120)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode(errors='replace')

def refused(answer): return answer[0] in (400, 403, 404, 405, 500) or answer[0] == 302 and answer[1]['Location'].startswith('/login')

PATHS = ['/', '/?token=', '/?token=x', '/?token=%00', '/api/kernels', f'/api/kernels/{"0"*8}-0000-0000-0000-{"0"*12}', '/api/contents', '/voila/api/contents', '/voila/tree', '/voila/render/explore.ipynb',
         '/voila/files/explore.ipynb', '/voila/static/../../../../../../etc/passwd', '/voila/static/..%2f..%2f..%2f..%2fetc%2fpasswd', '/voila/templates/lab/static/..%2f..%2f..%2fconf.json', '/metrics', '/api/me']

@pytest.mark.parametrize('path', PATHS)
def test_nothing_without_the_token(page, path):
    for headers in ({}, {'Authorization': 'token '}, {'Authorization': 'token x'}, {'Cookie': 'username-127-0-0-1=x; _xsrf=x'}, {'X-Forwarded-For': '127.0.0.1', 'X-Scheme': 'https'}):
        assert refused(answer := asked(page, path, **headers)), (path, headers, answer)
        assert 'root:' not in answer[2] and 'Explorer' not in answer[2]

def test_no_files_with_it(page):
    for path in PATHS[4:]:
        status, headers, text = asked(page, f'{path}{"&" if "?" in path else "?"}token={page[1]}')
        assert status in (302, 403, 404, 405, 500) and 'root:' not in text and 'page_explorer' not in text and '"cells"' not in text, (path, status)

@pytest.mark.parametrize('host', ['evil.example', 'evil.example:{port}', '127.0.0.1.evil.example', '127.1', '2130706433', '0x7f.1', '', 'localhost.evil.example:{port}', '127.0.0.1@evil.example'])
def test_under_another_name_it_is_not_this_page(page, host):
    "An address that somebody made to lead here (DNS rebinding): the token doesn't help."
    host = host.format(port=page[0].split(':')[1])
    for path in ('/', '/login', '/api/kernels'): assert asked(page, f'{path}?token={page[1]}', Host=host)[0] in (400, 403, 404)

def message(kind, content, channel='shell'):
    "A message to a kernel, as a page sends it."
    header = dict(msg_id=uuid.uuid4().hex, username='x', session='x', msg_type=kind, version='5.3', date='2026-01-01T00:00:00Z')
    return json.dumps(dict(header=header, parent_header={}, metadata={}, content=content, channel=channel, buffers=[]))

@pytest.fixture(scope='module')
def kernel(page):
    "The path of the kernel behind an opened page, and the cookie that a browser then has."
    status, headers, text = asked(page, f'/?token={page[1]}')
    assert status == 200, text[-2000:]
    assert page[1] not in text and "default-src 'self'" in headers['Content-Security-Policy'] and not headers['Access-Control-Allow-Origin']
    return f'/api/kernels/{re.search(KERNEL, text)[0]}/channels?session_id=x', '; '.join(v.split(';')[0] for v in headers.get_all('Set-Cookie'))

def spoken_to(page, path, **headers):
    "The answer to somebody who wants to speak to a kernel (101: go on), and the line to speak over."
    line = socket.create_connection(page[0].split(':'), timeout=120)
    asked = {'Host': page[0], 'Connection': 'Upgrade', 'Upgrade': 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'MDEyMzQ1Njc4OWFiY2RlZg==', **headers}
    line.sendall(f'GET {path} HTTP/1.1\r\n{"".join(f"{k}: {v}{chr(13)}{chr(10)}" for k, v in asked.items())}\r\n'.encode())
    answer = line.makefile('rb')
    status = int(answer.readline().split()[1])
    while answer.readline().strip(): pass
    return status, line, answer

def say(line, text):
    "A message over a websocket (RFC 6455), masked with zeros."
    line.sendall(b'\x81' + struct.pack('>BH', 0x80 | 126, len(text)) + bytes(4) + text.encode())

def hear(answer):
    "The next text from a websocket."
    while True:
        kind, n = answer.read(2)
        data = answer.read(struct.unpack('>H', answer.read(2))[0] if n == 126 else struct.unpack('>Q', answer.read(8))[0] if n == 127 else n)
        if kind & 15 == 1: return data.decode()

def connected(page, path, **headers):
    "Does the page let one speak to its kernel? What it answers."
    status, line, _ = spoken_to(page, path, **headers)
    line.close()
    return status

def test_the_kernel_hears_its_own_page_alone(page, kernel):
    url, cookie = kernel
    assert connected(page, url) == connected(page, url, Origin=f'http://{page[0]}') == connected(page, url + '&token=x') == 403
    for origin in ('http://evil.example', 'null', 'http://127.0.0.1:1', f'http://{page[0]}.evil.example', f'http://evil.example:{page[0].split(":")[1]}', 'file://'):
        assert connected(page, url, Origin=origin, Cookie=cookie) == 403, origin
    assert connected(page, url, Origin='http://evil.example', Host='evil.example', Cookie=cookie) == 403
    assert connected(page, url, Origin=f'http://{page[0]}', Cookie=cookie) == 101

def test_a_visitor_runs_no_code(page, kernel):
    "Who has the page moves its controls: what is sent as code isn't run, nor is a widget made whose class isn't one."
    url, cookie = kernel
    trap = page[2]/'trapped'
    run = dict(code=f'open({str(trap)!r}, "w")', silent=False, store_history=False, user_expressions={}, allow_stdin=False, stop_on_error=True)
    status, line, answer = spoken_to(page, url, Cookie=cookie)
    assert status == 101
    for channel in ('shell', 'control', 'iopub', 'stdin'): say(line, message('execute_request', run, channel))
    say(line, message('comm_open', dict(comm_id='x', target_name='os.system', target_module='os', data=dict(state=dict(_model_module='os', _model_name='system')))))
    say(line, message('kernel_info_request', {}))
    kinds = []
    while 'kernel_info_reply' not in kinds: kinds.append(json.loads(hear(answer))['msg_type'])
    line.close()
    assert not trap.exists() and not {'execute_reply', 'execute_input', 'execute_result'} & {*kinds}
