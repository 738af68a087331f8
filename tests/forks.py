"""Processes that are forked from one in which torch has been imported, and nothing computed."""

import multiprocessing

SERVER = multiprocessing.get_context("forkserver")
IMPORTED = [
    "torch", "xarray", "h5netcdf", "tda.cli", "tda.analysis", "tda.preparation", "tda.attribution",
    "tda.distributional.influence", "tda.statistics", "tda.stages.retraining",
    "tda.stages.gradients", "tda.stages.training", "tda.stages.estimators",
]  # fmt: skip
SERVER.set_forkserver_preload(IMPORTED)
