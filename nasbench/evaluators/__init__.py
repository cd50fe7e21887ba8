"""Evaluators score a candidate: trained, looked up, by shared weights, by a function of the user's own, ..."""
