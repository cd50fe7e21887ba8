"""Training and scoring of networks."""

from nasbench.training.augmentation import augment
from nasbench.training.errors import Diverged, TimedOut
from nasbench.training.loop import train
from nasbench.training.scoring import Score, score
from nasbench.training.training import Epoch, Training

__all__ = ["Diverged", "Epoch", "Score", "TimedOut", "Training", "augment", "score", "train"]
