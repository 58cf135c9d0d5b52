"""The commands, each in a process of its own, as a user types them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.client_part import ClientPart
from inhibitor_transformers.deploy.encrypted.encoders import PixelEncoder
from inhibitor_transformers.deploy.encrypted.engine import LICENSE_NOTICE
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
from inhibitor_transformers.deploy.encrypted.saved import save_model
from tests.deploy.encrypted.cases import random_classifier
from tests.deploy.encrypted.engine.conftest import INHIBIT
from tests.deploy.encrypted.engine.tiny import LABELS, examples, tiny_plan

# A server whose computations say that they have begun, and then take as many seconds as the last argument says.
SLOW = """
import sys, time
from inhibitor_transformers.cli import main
from inhibitor_transformers.deploy.encrypted.engine.service import Service
run, seconds = Service.run, float(sys.argv.pop())
def slow(self, keys, value):
    print("computing", flush=True)
    time.sleep(seconds)
    return run(self, keys, value)
Service.run = slow
sys.argv[1:1] = ["encrypted", "serve"]
main()
"""


def inhibit(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(INHIBIT), "encrypted", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def refused(*words: object) -> str:
    """The error of a command that must fail: status 2, one line after the license."""
    done = inhibit(*words)
    assert done.returncode == 2, done
    first, line, *rest = done.stderr.splitlines()
    assert (first, rest, line[:7]) == (LICENSE_NOTICE, [], "error: "), done.stderr
    return line


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", examples(2))
    return tmp_path / "x.npy"


def test_from_model_to_plan(tmp_path):
    """In the environment that has numpy 1, of a model that another numpy may have written."""
    classifier = random_classifier("inhibitor", tokens=2, features=12)
    encoder = PixelEncoder(np.arange(24).reshape(2, 12), highest=16, input_qmax=3)
    save_model(tmp_path / "model", classifier, encoder, {"labels": ["a", "b", "c"]})
    made = inhibit("plan", tmp_path / "model", "--output", tmp_path / "plan")
    assert (made.returncode, made.stderr) == (0, "")
    plan, part = EncryptedPlan.load(tmp_path / "plan"), ClientPart.load(tmp_path / "plan")
    assert plan.digest == part.plan == classifier.plan().digest
    assert part.labels == ("a", "b", "c")
    pixels = np.random.default_rng(0).integers(0, 17, (5, 24))
    assert (part.encode(pixels) == encoder.encode(pixels)).all()


def test_from_plan_to_answer(tmp_path, serve, inputs):
    plan = tiny_plan()
    plan.save(tmp_path / "plan", ClientPart.of(plan, LABELS).files())
    compiled = inhibit("compile", tmp_path / "plan", "--client", tmp_path / "client")
    assert (compiled.returncode, compiled.stderr) == (0, f"{LICENSE_NOTICE}\n")
    assert "next: inhibit encrypted keys" in compiled.stdout
    made = inhibit("keys", tmp_path / "client")
    assert (made.returncode, made.stderr) == (0, f"{LICENSE_NOTICE}\n")
    assert "secret.key: keep it to yourself" in made.stdout
    server = serve(tmp_path / "plan")
    shutil.move(tmp_path / "plan", tmp_path / "elsewhere")  # the client works without it

    asked = inhibit("ask", tmp_path / "client", "--url", server.url, "--input", inputs, "--json")
    logits = plan.finish(plan.evaluate(examples(2)))
    assert asked.returncode == 0, asked
    assert [answer["logits"] for answer in json.loads(asked.stdout)] == logits.tolist()
    plain = inhibit("ask", tmp_path / "client", "--url", server.url, "--input", inputs)
    names = [LABELS[best] for best in logits.argmax(1)]
    assert plain.stdout.splitlines() == [
        f"{n}  logits {a} {b}" for n, (a, b) in zip(names, logits.tolist(), strict=True)
    ]

    server.process.send_signal(signal.SIGINT)
    out, err = server.process.communicate(timeout=30)
    assert (server.process.returncode, out, err) == (0, "stopped\n", f"{LICENSE_NOTICE}\n")


def test_a_server_that_was_started_anew_gets_the_keys_again(folders, serve, inputs):
    for _ in range(2):
        server = serve(folders.plan)
        asked = inhibit("ask", folders.client, "--url", server.url, "--input", inputs)
        assert asked.returncode == 0, asked
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=30)
        assert server.process.returncode == 0


def test_a_server_that_is_killed_while_it_computes(folders, serve, inputs):
    server = serve(folders.plan, "60", command=(sys.executable, "-c", SLOW))
    command = [str(INHIBIT), "encrypted", "ask", str(folders.client), "--url", server.url, "--input", str(inputs)]
    asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.process.stdout.readline() == "computing\n"
    server.process.kill()
    out, err = asking.communicate(timeout=30)
    assert (asking.returncode, out) == (2, "")
    assert "ended the connection before it had answered: was it stopped?" in err.splitlines()[-1]
    assert "is the server running?" in refused("ask", folders.client, "--url", server.url, "--input", inputs)


def test_a_client_that_is_killed_while_it_waits(folders, serve, inputs):
    """The server writes to a connection that is gone, and goes on."""
    server = serve(folders.plan, "2", command=(sys.executable, "-c", SLOW))
    command = [str(INHIBIT), "encrypted", "ask", str(folders.client), "--url", server.url, "--input", str(inputs)]
    asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.process.stdout.readline() == "computing\n"
    asking.kill()
    asking.communicate()
    asked = inhibit("ask", folders.client, "--url", server.url, "--input", inputs, "--timeout", "60")
    assert asked.returncode == 0, asked


def test_a_server_that_is_interrupted_finishes_what_it_computes(folders, serve, inputs):
    server = serve(folders.plan, "2", command=(sys.executable, "-c", SLOW))
    np.save(inputs, examples(1))
    command = [str(INHIBIT), "encrypted", "ask", str(folders.client), "--url", server.url, "--input", str(inputs)]
    asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.process.stdout.readline() == "computing\n"
    server.process.send_signal(signal.SIGINT)
    assert asking.communicate(timeout=60)[0].startswith(LABELS)
    server.process.communicate(timeout=30)
    assert server.process.returncode == 0


def test_a_server_of_another_model(shared, other, serve, inputs):
    server = serve(other.plan)
    assert "they belong to different models" in refused("ask", shared.client, "--url", server.url, "--input", inputs)


def test_a_port_that_is_taken(shared, serve):
    server = serve(shared.plan)
    port = server.url.rpartition(":")[2]
    assert f"port {port} of 127.0.0.1 is taken or not allowed: name another with --port" in refused(
        "serve", shared.plan, "--port", port
    )


def test_an_input_out_of_range(shared, tmp_path):
    np.save(tmp_path / "x.npy", examples() + 3)
    assert "is outside [0, 2]" in refused("ask", shared.client, "--input", tmp_path / "x.npy")


def test_keys_are_not_replaced(shared):
    assert "has keys already" in refused("keys", shared.client)


def test_a_failure_after_a_computation_is_a_failure(folders, tmp_path):
    """Concrete's runtime, once it runs, would end the process with status 0."""
    (folders.plan / "program.json").unlink()
    code = """
import sys
from inhibitor_transformers.cli import main
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
evaluate = EncryptedPlan.evaluate
EncryptedPlan.evaluate = lambda plan, inputs: evaluate(plan, inputs) + 1
main()
"""
    words = ["encrypted", "compile", str(folders.plan), "--client", str(tmp_path / "second")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "a sample was decrypted to other integers than the plan's" in done.stderr


def test_a_peer_that_hangs_up_does_not_end_the_process(shared):
    """Concrete's runtime, once it runs, catches SIGPIPE and would end it."""
    code = """
import socket, sys
from pathlib import Path
import numpy as np
from inhibitor_transformers.deploy.encrypted.engine.client_folder import ClientFolder
from inhibitor_transformers.deploy.encrypted.engine.compiled import recompile
circuit, _ = recompile(Path(sys.argv[1]))
client, _ = ClientFolder.load(Path(sys.argv[2])).load_keys()
circuit.server.run(client.encrypt(np.zeros((2, 2), np.int64)), evaluation_keys=client.evaluation_keys)
ours, theirs = socket.socketpair()
theirs.close()
try:
    ours.send(b"x")
except BrokenPipeError:
    sys.exit(4)
"""
    command = [sys.executable, "-c", code, *map(str, shared)]
    assert subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 4


@pytest.mark.parametrize("command", [("serve", "{}"), ("ask", "{}", "--text", "x"), ("keys", "{}")])
def test_no_folder(tmp_path, command):
    assert "is no folder" in refused(*(word.format(tmp_path / "absent") for word in command))
