"""Figures: tables and arrays become matplotlib figures. Nothing here computes a statistic."""
