import signal
import subprocess
import sys
import threading
from _thread import interrupt_main

import pytest

from voxloop.cli import info
from voxloop.cli.interrupts import Interrupts
from voxloop.cli.main import main
from voxloop.errors import FormatError

# In a process of its own: Qt's import hook, which other tests load, runs Python code where numba imports something.
PROGRAM = """
import threading
from _thread import interrupt_main
import numpy as np
from voxloop.cli.interrupts import Interrupts
from voxloop.kernels.pooling import find_runs

labels = np.arange(20_000, dtype=np.uint32).reshape(1, 1, 20_000)
for seconds in np.linspace(0.001, 0.003, 100):
    interrupts = Interrupts()
    try:
        with interrupts.watched():
            threading.Timer(seconds, interrupt_main).start()
            for _ in range(20_000):
                find_runs(labels, np.zeros(labels.size, np.int32))  # a kernel that returns arrays
                interrupts.check()
    except KeyboardInterrupt:
        print("stopped")
"""


def test_ctrl_c_in_a_kernel_is_neither_lost_nor_another_error():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["stopped"] * 100


# Python says on stderr that it ignores an exception in a destructor.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_one_is_raised_at_the_next_step():
    class Lost:
        def __del__(self) -> None:
            interrupt_main()
            sum(range(10))  # where the handler runs

    interrupts = Interrupts()
    with interrupts.watched():
        interrupts.check()
        Lost()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_other_threads_are_left_alone():
    found = []

    def enter() -> None:
        with Interrupts().watched():
            found.append("entered")

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == ["entered"]


def test_one_that_a_library_took_for_damage_is_still_one(monkeypatch, capsys, tmp_path):
    def read(_options, _output):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise FormatError("cells.tif is damaged") from None

    monkeypatch.setattr(info, "run", read)
    assert main(["info", str(tmp_path)]) == 130
    assert "damaged" not in capsys.readouterr().err
