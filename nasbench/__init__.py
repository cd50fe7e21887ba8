"""Run and measure: experiments, studies, executors, training, hardware, reports and the command line."""

__version__ = "0.1.0"
