from nasbench.training.augmentation import augment as augment
from nasbench.training.errors import Diverged as Diverged, TimedOut as TimedOut
from nasbench.training.loop import train as train
from nasbench.training.training import Epoch as Epoch, Training as Training
