"""GPU time is estimated: nothing of this project has been timed on one.

An estimate divides counted FLOPs by a share of a GPU's float32 peak, outside its tensor cores, as
NVIDIA's data sheets give it: what the stages compute in unless asked for TF32, and scores always.
The share is an assumption.
"""

from dataclasses import dataclass

from tda.errors import UserError

PEAK_TFLOPS = {"A100": 19.5, "H100": 67.0}  # float32, 10¹² FLOP/s; H100: SXM
ACHIEVED = 0.4


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, and the share of its peak that work is assumed to reach.

    Raises:
        UserError: an unknown GPU, or no share between 0 and 1.
    """

    name: str = "A100"
    achieved: float = ACHIEVED

    def __post_init__(self) -> None:
        if self.name not in PEAK_TFLOPS:
            raise UserError(f"unknown GPU {self.name!r}: choose one of {', '.join(PEAK_TFLOPS)}")
        if not 0 < self.achieved <= 1:
            raise UserError(f"a share of the peak is between 0 and 1, not {self.achieved}")

    @property
    def tflops(self) -> float:
        """10¹² FLOP/s that work is assumed to reach."""
        return self.achieved * PEAK_TFLOPS[self.name]

    @property
    def basis(self) -> str:
        """What an estimate rests on, in words."""
        peak = f"{self.name} float32 {PEAK_TFLOPS[self.name]:g} TFLOP/s"
        return f"estimate: FLOPs / ({self.achieved:.0%} of {peak})"
