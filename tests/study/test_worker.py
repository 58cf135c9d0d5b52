"""The processes of a study."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

_KILLED_STUDY = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from inhibitor_transformers.study.worker import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_workers_end_with_the_study(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(_KILLED_STUDY)
    study = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert study.stdout is not None
    worker = int(study.stdout.readline())
    study.kill()
    study.wait()
    try:
        psutil.Process(worker).wait(60)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        pytest.fail("the worker goes on")
