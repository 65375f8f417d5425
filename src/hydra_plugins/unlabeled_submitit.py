"""submitit's launchers, which go on waiting for the other jobs where one was killed. Hydra finds plugins here only."""

import math
import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

try:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher
except ImportError:  # the presets say what to install
    pass
else:

    class Local(LocalLauncher):
        """Processes of this machine."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            with _patience():
                return super().launch(job_overrides, initial_job_idx)

    class Slurm(SlurmLauncher):
        """A SLURM job array."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            with _patience():
                return super().launch(job_overrides, initial_job_idx)


class _patience:
    """While it lasts, a job without a result counts as a failed one, instead of ending the wait for all."""

    def __enter__(self) -> None:
        from submitit import Job
        from submitit.core.utils import UncompletedJobError

        whole = self.results = Job.results

        def results(job: Any) -> list[Any]:
            try:
                return whole(job)
            except UncompletedJobError:
                print(f"error: job {job.job_id} was lost: see {job.paths.stderr}", file=sys.stderr)
                lost = JobReturn(status=JobStatus.COMPLETED)
                lost.return_value = math.nan
                return [lost]

        Job.results = results

    def __exit__(self, *_: Any) -> None:
        from submitit import Job

        Job.results = self.results
