"""Python programs as processes that begin with everything imported: forks of one server, which spares each of them ten seconds of imports.
What they do is theirs alone: own session, folder, variables, signals, limits."""
import multiprocessing, os, random, runpy, signal, subprocess, sys, tempfile
from pathlib import Path

FORKS = multiprocessing.get_context('forkserver')
def import_once(
    *names, # modules; those that are not here are left to whoever wants them
):
    "What the server imports before its first process starts."
    FORKS.set_forkserver_preload([*names])

def become(argv, cwd, env, out, err):
    "In the fork: be what `python argv...` would be."
    os.setsid()
    multiprocessing.set_start_method(None, force=True) # the system's own, as in any new process
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None # not the server's
    random.seed() # as little alike as two processes are that import for themselves
    if numpy := sys.modules.get('numpy'): numpy.random.seed()
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fd, stream.fileno())
        os.close(fd)
    sys.argv, sys.path[0] = argv, str(Path(argv[0]).parent)
    runpy.run_path(argv[0], run_name='__main__')

class Forked:
    "A process, in the words of `subprocess.Popen`, the leader of a session of its own; what it says lies in files."
    def __init__(self,
        argv,     # a Python script and its arguments
        cwd='.',  # where it runs
        env=None, # its variables (default: ours); what libraries read while they are imported, the server has read
        out=None, # file of its output (default: one of its own)
        err=None, # file of its errors (default: that of its output)
    ):
        self.out = Path(out or tempfile.mkstemp(prefix='nlbs-out-')[1])
        self.err = Path(err or self.out)
        args = [*map(str, argv)], str(cwd), dict(os.environ if env is None else env), str(self.out), str(self.err)
        self.process = FORKS.Process(target=become, args=args)
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self): return self.process.exitcode

    def poll(self): return self.returncode

    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.returncode is None: raise subprocess.TimeoutExpired(self.process.name, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        self.wait(timeout)
        return self.out.read_text(), self.err.read_text()

    def send_signal(self, number):
        if self.poll() is None: os.kill(self.pid, number)

    def kill(self): self.send_signal(signal.SIGKILL)
    def terminate(self): self.send_signal(signal.SIGTERM)
