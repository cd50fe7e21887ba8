"""The study: who asks, who records, who goes on after a crash."""

from nasbench.study.record import Candidate
from nasbench.study.run_folder import RunFolder
from nasbench.study.study import Study, make_controller

__all__ = ["Candidate", "RunFolder", "Study", "make_controller"]
