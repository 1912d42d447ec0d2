"""A page in the browser: choose a character and a pose, and see the animation.

    python -m aa_jax.web
    python -m aa_jax.web --model model/ --dtype bfloat16 --host 0.0.0.0 --port 8000 --max-waiting 20

Open the address that it prints. Nothing is fetched from or sent to elsewhere. Other machines see the page only with
--host, and without a password: put a server of yours before it. Needs the extra [web].
"""  # fmt: skip

import argparse
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from aa_jax import cli
from aa_jax.animator import DTYPES, Animator
from aa_jax.web.studio import Studio
from aa_jax.web.uploads import Limits
from aa_jax.weights import load_config, resolve


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(prog="aa-jax web", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument(
        "--model", default="bundled", metavar="DIR",
        help="model folder, or owner/name on the Hugging Face Hub; default: the bundled one",
    )  # fmt: skip
    command.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of weights and computation, default float32"
    )
    command.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default 127.0.0.1: this machine only")
    command.add_argument("--port", type=int, default=7860, metavar="N", help="default 7860")
    usual = Limits()
    for name, most, what in (
        ("max-upload-mb", usual.upload_mb, "megabytes of an upload"),
        ("max-frames", usual.frames, "frames of an animation"),
        ("max-waiting", usual.waiting, "animations that may wait while one is made"),
    ):
        command.add_argument(f"--{name}", type=int, default=most, metavar="N", help=f"{what}, default {most}")
    return command


def serve(args: argparse.Namespace) -> None:
    """Run the command until it is interrupted."""
    limits = Limits(upload_mb=args.max_upload_mb, frames=args.max_frames, waiting=args.max_waiting)
    check_address(args.host, args.port)
    load_config(resolve(args.model))  # of no model it is told before anything takes its time
    with tempfile.TemporaryDirectory(prefix="aa_jax_web_") as folder:
        # Where Gradio keeps uploads and results; it reads this when it is imported.
        os.environ["GRADIO_TEMP_DIR"] = folder
        from aa_jax.web import page

        studio = Studio(Animator.from_pretrained(args.model, dtype=args.dtype), limits, Path(folder))
        page.launch(page.build(studio), args.host, args.port, limits)


def check_address(host: str, port: int) -> None:
    """Raise ValueError unless a page can be served there."""
    if not 0 < port < 2**16:
        raise ValueError(f"port is {port}, expected 1 to {2**16 - 1}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ValueError(
            f"{host}:{port} cannot be served from ({error.strerror}): choose another --port or --host"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    return cli.run("web", lambda: serve(args), Path("the page"))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leaving removes the folder, the signal alone does not
    sys.exit(main())
