"""GPU time is estimated: nothing of this project has been timed on one.

An estimate divides counted FLOPs by a share of a GPU's peak. The peaks are those of NVIDIA's data
sheets, for dense matrices. The share is an assumption: per-example gradients of the small ViT reach
.32 to .47 of the matrix product of the cores they were measured on (benchmarks/README.md).
"""

from dataclasses import dataclass

from tda.errors import UserError

PEAK_TFLOPS = {  # 10¹² FLOP/s
    "A100": {"float32": 19.5, "TF32": 156.0},
    "H100": {"float32": 67.0, "TF32": 494.7},
}
ACHIEVED = 0.4


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, and the share of its peak that work is assumed to reach.

    Raises:
        UserError: an unknown GPU or precision, or no share between 0 and 1.
    """

    name: str = "A100"
    precision: str = "float32"
    achieved: float = ACHIEVED

    def __post_init__(self) -> None:
        if self.precision not in PEAK_TFLOPS.get(self.name, {}):
            names = "; ".join(f"{name}: {', '.join(own)}" for name, own in PEAK_TFLOPS.items())
            raise UserError(f"no peak of {self.name} in {self.precision} is known: choose {names}")
        if not 0 < self.achieved <= 1:
            raise UserError(f"a share of the peak is between 0 and 1, not {self.achieved}")

    @property
    def tflops(self) -> float:
        """10¹² FLOP/s that work is assumed to reach."""
        return self.achieved * PEAK_TFLOPS[self.name][self.precision]

    @property
    def basis(self) -> str:
        """What an estimate rests on, in words."""
        peak = PEAK_TFLOPS[self.name][self.precision]
        return f"estimate: FLOPs / ({self.achieved:.0%} of {self.name} {self.precision} {peak:g} TFLOP/s)"
