"""Figures of anyone's scores."""
