"""The model of a page: checks, animates in turn, and writes results into a folder."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aa_jax.animator import Animator
from aa_jax.video import DEFAULT_FPS, write_video
from aa_jax.web import job
from aa_jax.web.job import Job, Request, Result
from aa_jax.web.turns import Turn, Turns
from aa_jax.web.uploads import Limits

# Every size, number of frames and sampler is a program of its own, and programs take memory.
MOST_PROGRAMS = 32


class Studio:
    """Animates what visitors ask for.

    Attributes:
      config: of the model.
      limits: of what may be asked for.
      turns: at the device, which makes one animation at a time.
    """

    def __init__(self, animator: Animator, limits: Limits, folder: Path):
        """Results are written into new folders below `folder`; whoever shows them removes them."""
        self.config = animator.config
        self.limits = limits
        self.turns = Turns(limits.waiting)
        self._animator = animator
        self._folder = folder

    def check(self, request: Request) -> Job:
        """The request, read; a ValueError as `job.prepare` raises it."""
        return job.prepare(request, self.config, self.limits)

    def animate(
        self, request: Request, turn: Turn, progress: Callable[[int, int], object] | None = None
    ) -> tuple[Result, Job]:
        """Animate and write, when it is one's turn.

        Raises:
          ValueError: see `job.prepare` and `job.animate`.
        """
        while turn.wait(60):
            pass
        checked = self.check(request)
        start, before = time.perf_counter(), self._animator.programs.compile_seconds
        frames = job.animate(self._animator, checked, progress)
        compiling = self._animator.programs.compile_seconds - before
        if self._animator.programs.compiled > MOST_PROGRAMS:
            self._animator = self._animator.with_inference()  # the same weights, no programs
        return job.write(self._new_folder(), checked, frames, start, compiling), checked

    def check_reference(self, file: Path) -> None:
        """Raise ValueError unless it is an image that can be animated."""
        job.read_reference(file, self.limits)

    def show_pose(self, files: Sequence[Path], size: tuple[int, int] | None = None) -> Path:
        """A video of a pose, at most as long as an animation may be; errors as in `job.read_pose`."""
        pose = job.read_pose(files, self.limits.frames, self.limits, size)
        path = self._new_folder() / "pose.mp4"
        write_video(path, job.shown_pose(pose, self.config.inference), pose.fps or DEFAULT_FPS)
        return path

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))
