"""Curvature matrices: products, spectra, filters of their eigenvalues."""
