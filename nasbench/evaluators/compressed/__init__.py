"""One search over architecture, compression and compilation, rewarded on the artefact that would be deployed."""
