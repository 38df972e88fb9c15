"""A pool of processes that run handlers, each one event at a time. The pool survives the death of any of them.

The nursery is a process that has imported all handlers and started no thread. It forks the workers, so a new worker starts within
milliseconds, and the imports happen once. Each worker has its own socket to the pool, so the pool sees its death at once and no
other worker is affected. If the nursery dies, the workers continue until there is a new one.
"""

import contextlib
import gc
import importlib
import json
import os
import queue
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable

from local.stack.invocation import Context, InvocationError, TimedOutError, run
from local.stack.processes import ROOT

NOT_IN_LAYERS = ("OpenSSL", "cryptography")
"""Modules that botocore and PyJWT would import only here. Other local tools depend on them, and the deployed layers lack them."""
ACCEPTED, ANSWER, FAILURE = b"a", b"r", b"f"


class WorkerDiedError(Exception):
    """The worker died while it ran the handler."""


class _NotAcceptedError(Exception):
    """The worker died before it accepted the event, so another worker may run it."""


def _send(sock: socket.socket, kind: bytes, data: bytes = b"") -> None:
    sock.sendall(kind + struct.pack("!I", len(data)) + data)


def _receive(sock: socket.socket, deadline: float | None = None) -> tuple[bytes, bytes]:
    header = _read_exactly(sock, 5, deadline)
    return header[:1], _read_exactly(sock, struct.unpack("!I", header[1:])[0], deadline)


def _read_exactly(sock: socket.socket, size: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if deadline is not None:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
        part = sock.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


class _Worker:
    """The pool's side of one worker."""

    def __init__(self, sock: socket.socket, generation: int) -> None:
        self.generation = generation
        self._sock = sock
        self.pid = int(_receive(sock)[1])

    def run(self, context: Context, event: str, deadline: float) -> str:
        """Make the worker call a handler, and return the answer."""
        accepted = False
        try:
            self._sock.settimeout(None)
            _send(self._sock, ANSWER, json.dumps([vars(context), json.loads(event)]).encode())
            accepted = _receive(self._sock, deadline)[0] == ACCEPTED
            kind, answer = _receive(self._sock, deadline)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            raise TimedOutError from None
        except (EOFError, OSError):
            if not accepted:
                raise _NotAcceptedError from None
            raise WorkerDiedError from None
        if kind == FAILURE:
            raise InvocationError(answer.decode())
        return answer.decode()

    def close(self) -> None:
        """Close the connection. The worker ends after its current event."""
        self._sock.close()


class Pool:
    """The workers, and the calls that wait for one.

    Parameters
    ----------
    size
        Number of workers.
    modules
        The handlers' modules, imported before the first worker is made.
    environment
        Returns additional variables of the workers' environment. It may wait for them.
    """

    def __init__(self, size: int, modules: Iterable[str], environment: Callable[[], dict[str, str]] = dict) -> None:
        self._size = size
        self._modules = list(modules)
        self._environment = environment
        # As in Lambda, use the most recently active worker first: its memory is the warmest.
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._generation = 0
        self._settled = threading.Event()
        self._changed = threading.Event()
        """Set if the handlers' code may differ from the code of the latest nursery."""
        self._nursery: socket.socket | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._keep, name="workers", daemon=True)

    def start(self) -> None:
        """Begin to make the workers. Call wait_until_ready() to wait for them."""
        self._thread.start()

    def wait_until_ready(self, seconds: float) -> bool:
        """Wait for the workers. Return False if that takes longer, or if a handler's module cannot be imported."""
        self._settled.wait(seconds)
        return self._generation > 0

    def reload(self) -> None:
        """Replace the workers by new ones with the handlers' present code.

        The old workers finish their current events. They continue until there are new workers, even if the new code cannot be
        imported.
        """
        self._changed.set()
        self._let_nursery_go()

    def close(self) -> None:
        """End idle workers now, and the others after their current events."""
        self._closed = True
        self._changed.set()
        self._let_nursery_go()
        self._thread.join()
        while not self._idle.empty():
            self._idle.get().close()

    def _let_nursery_go(self) -> None:
        if self._nursery:
            with contextlib.suppress(OSError):
                self._nursery.shutdown(socket.SHUT_RDWR)

    def invoke(self, context: Context, event: str) -> str:
        """Run a handler in a free worker, waiting for one if needed, and return its answer as JSON.

        Raises
        ------
        InvocationError, TimedOutError, WorkerDiedError
            There is no answer.
        """
        deadline = time.monotonic() + context.timeout
        while True:
            try:
                worker = self._idle.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimedOutError from None
            if worker.generation != self._generation:
                worker.close()
                continue
            try:
                answer = worker.run(context, event, deadline)
            except InvocationError:
                self._idle.put(worker)
                raise
            except _NotAcceptedError:
                worker.close()  # a new worker replaces it
                continue
            except (TimedOutError, WorkerDiedError):
                worker.close()
                raise
            self._idle.put(worker)
            return answer

    def _keep(self) -> None:
        """Keep a nursery and the right number of workers until the pool is closed."""
        environment = {**os.environ, **self._environment()}
        while not self._closed:
            self._changed.clear()
            self._nursery, its = socket.socketpair()
            nursery = subprocess.Popen(
                [sys.executable, "-m", "local.stack.workers", str(its.fileno()), *self._modules],
                cwd=ROOT,
                env=environment,
                pass_fds=(its.fileno(),),
                stdin=subprocess.DEVNULL,
            )
            its.close()
            with self._nursery, contextlib.suppress(EOFError, OSError):
                self._tend(self._nursery)
            if nursery.wait() <= 0:  # the pool closed its connection, or the nursery was killed
                continue
            if self._generation == 0:
                break
            print(
                "ERROR the handlers cannot be imported: the workers keep the code of before",
                file=sys.stderr,
                flush=True,
            )
            self._changed.wait()
        self._settled.set()

    def _tend(self, nursery: socket.socket) -> None:
        _receive(nursery)  # the nursery has imported everything
        generation = self._generation + 1
        alive = {worker.pid: worker for worker in [self._fork(nursery, generation) for _ in range(self._size)]}
        self._generation = generation
        with contextlib.suppress(queue.Empty):
            while True:  # invoke() later closes busy workers of the old generation
                self._idle.get_nowait().close()
        for worker in alive.values():
            self._idle.put(worker)
        self._settled.set()
        while True:
            dead = int(_receive(nursery)[1])
            if alive.pop(dead, None):
                worker = self._fork(nursery, generation)
                alive[worker.pid] = worker
                self._idle.put(worker)

    @staticmethod
    def _fork(nursery: socket.socket, generation: int) -> _Worker:
        ours, its = socket.socketpair()
        with its:
            socket.send_fds(nursery, [b"\n"], [its.fileno()])
        return _Worker(ours, generation)


class Nursery:
    """The process that forks the workers. It ends with the pool."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def serve(self) -> None:
        """Fork a worker for each socket that arrives, and report each worker that dies."""
        wakeup, waker = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        _send(self._control, ANSWER)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wakeup:
                    wakeup.recv(64)
                    self._reap()
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
                if not message:
                    return
                if os.fork() == 0:
                    selector.close()
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for unused in (self._control, wakeup, waker):
                        unused.close()
                    work(socket.socket(fileno=descriptors[0]))
                os.close(descriptors[0])

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                _send(self._control, ANSWER, str(pid).encode())


def work(sock: socket.socket) -> None:
    """Run handlers, one after the other, until the pool is gone."""
    with contextlib.suppress(EOFError, OSError):
        _send(sock, ANSWER, str(os.getpid()).encode())
        while True:
            arguments, event = json.loads(_receive(sock)[1])
            _send(sock, ACCEPTED)
            try:
                answer, kind = run(event, Context(**arguments)), ANSWER
            except InvocationError as error:
                answer, kind = str(error), FAILURE
            sys.stdout.flush()
            _send(sock, kind, answer.encode())
    os._exit(0)


def main() -> None:
    """Run as the nursery. The first argument is the descriptor of its socket, the others are the modules to import."""
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path.insert(0, str(ROOT / "functions"))
    for absent in NOT_IN_LAYERS:
        sys.modules[absent] = None  # type: ignore[assignment] # how Python is told that there is no such module
    for module in sys.argv[2:]:
        importlib.import_module(module)
    if threading.active_count() > 1:
        sys.exit(f"a handler starts threads when it is imported: {threading.enumerate()}")
    gc.collect()
    gc.freeze()  # the collector would write to every object, and so copy every memory page that the workers share
    with contextlib.suppress(ConnectionError):  # the pool has closed the connection
        Nursery(control).serve()
    os._exit(0)


if __name__ == "__main__":
    main()
