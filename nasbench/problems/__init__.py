"""Problems of networks: data, training and metrics."""
