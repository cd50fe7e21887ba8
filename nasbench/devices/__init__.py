"""Where networks are timed, and the protocol of a measurement."""
