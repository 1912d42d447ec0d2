"""The command: what it says of itself, and mistakes in one line with exit code 2."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from importlib.util import find_spec

import pytest

from aa_jax.web.__main__ import check_address, main


def refused(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_port_in_use(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = refused(capsys, "--port", port)
    assert line.startswith(f"web: 127.0.0.1:{port} cannot be served from") and line.endswith("--port or --host")
    check_address("127.0.0.1", port)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--port", "70000"], "port is 70000, expected 1 to 65535"),
        (["--max-waiting", "0"], "waiting is limited to 0, expected 1 or more"),
        (["--host", "no host"], "no host:7860 cannot be served from"),
    ],
)
def test_bad_options(capsys, arguments, message):
    assert message in refused(capsys, *arguments)


def test_no_gradio(capsys, monkeypatch, web_model):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "aa_jax.web.page", raising=False)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    assert refused(capsys, "--model", web_model) == "web: gradio is missing: pip install 'aa_jax[web]'"


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0 and "python -m aa_jax.web --model model/" in shown and len(shown.splitlines()) < 35


def test_no_model(capsys, tmp_path):
    assert "is no model folder and no hub id" in refused(capsys, "--model", tmp_path / "none")


@pytest.mark.skipif(find_spec("gradio") is None, reason="the page needs Gradio: pip install gradio")
def test_it_serves_until_it_is_stopped_and_leaves_nothing(web_model, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "aa_jax.web", "--model", str(web_model), "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == f"open http://127.0.0.1:{port}/\n"
            assert any(path.name.startswith("aa_jax_web_") for path in tmp_path.iterdir())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as response:
                assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            with socket.socket() as elsewhere:  # another address of this machine
                assert elsewhere.connect_ex(("127.0.0.2", port)) != 0
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        finally:
            process.kill()
    assert not list(tmp_path.iterdir())
