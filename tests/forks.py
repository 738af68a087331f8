"""Processes that are forked from one in which torch has been imported, and nothing computed."""

import multiprocessing

SERVER = multiprocessing.get_context("forkserver")
IMPORTED = [
    "torch",
    "xarray",
    "h5netcdf",
    "bayestda.experiments.stages.runner",
    "bayestda.experiments.analysis",
    "bayestda.experiments.data.prepare",
    "bayestda.scores.attribution",
    "bayestda.distributional.influence",
    "bayestda.statistics",
    "bayestda.experiments.stages.retraining",
    "bayestda.experiments.stages.gradients",
    "bayestda.experiments.stages.training",
    "bayestda.experiments.stages.estimators",
]
SERVER.set_forkserver_preload(IMPORTED)
