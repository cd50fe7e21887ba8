"""From a network to the artefact that is deployed."""
