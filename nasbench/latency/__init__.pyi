from nasbench.latency.transfer import TransferPredictor as TransferPredictor
