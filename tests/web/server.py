"""The page in a process of its own, whose device the tests can occupy.

    python -m tests.web.server MODEL FOLDER PORT

While there is a file `hold` in FOLDER somebody's animation is being made; `line` says how many are in line, that one
included.
"""  # fmt: skip

import contextlib
import os
import sys
import time
from pathlib import Path

from aa_jax.animator import Animator
from aa_jax.web.studio import Studio
from aa_jax.web.uploads import Limits

LIMITS = Limits(upload_mb=2, frames=6, steps=4, waiting=1)


def serve(model: str, folder: Path, port: int) -> None:
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    from aa_jax.web import page

    studio = Studio(Animator.from_pretrained(model), LIMITS, folder)
    page.launch(page.build(studio), "127.0.0.1", port, LIMITS, wait=False)
    hold, line, partial = folder / "hold", folder / "line", folder / "line.partial"
    while True:
        held = hold.exists()
        with studio.turns.join() if held else contextlib.nullcontext():
            while hold.exists() == held:
                partial.write_text(str(len(studio.turns.line)))
                partial.replace(line)
                time.sleep(0.05)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
