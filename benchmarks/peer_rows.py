"""The rows of the peers' table: who is compared with whom, on what, how close they have to be."""

from dataclasses import dataclass

MLP, CNN = "digits MLP", "MNIST3 CNN2"
ROUNDING = 1e-4  # of float32 scores, in units of the largest
SOLVED = 1e-3  # of iterative solutions
WRONG = float("inf")  # known to be wrong, or to compute something else: see the notes


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        case, ours, peer, exact: names.
        columns: test examples that the peer scores; None: all.
        our_columns: likewise.
        tolerance: of our error.
        peer_tolerance: of the peer's.
        free_scale: scores are known up to a constant.
    """

    case: str
    ours: str
    peer: str
    exact: str
    columns: int | None = None
    our_columns: int | None = None
    tolerance: float = ROUNDING
    peer_tolerance: float = ROUNDING
    free_scale: bool = False


def _row(case: str, ours: str, peer: str, exact: str, **options) -> Row:
    return Row(case, f"ours: {ours}", peer, exact, **options)


_LISSA = {"tolerance": 0.2, "peer_tolerance": 0.2}
_CG = {"tolerance": SOLVED, "peer_tolerance": SOLVED}
_TRAK = {"tolerance": SOLVED, "peer_tolerance": 0.1, "free_scale": True}  # k near N in float32
_FISHER = "influence_ekfac, empirical"

ROWS = (
    *(
        _row(case, "grad_dot", peer, "Grad-Dot")
        for case in (MLP, CNN)
        for peer in ("captum: TracInCP", "dattri: Grad-Dot", "kronfluence: identity")
    ),
    *(
        _row(MLP, "influence_hessian", peer, "Hessian", peer_tolerance=SOLVED)
        for peer in ("pyDVL: Direct", "dattri: Explicit", "captum: NaiveInfluenceFunction")
    ),
    _row(MLP, "influence_cg, Hessian", "pyDVL: Direct", "Hessian", **_CG),
    _row(MLP, "influence_cg, Hessian", "pyDVL: CG", "Hessian", **_CG),
    _row(MLP, "influence_cg, Hessian", "dattri: CG", "Hessian", **_CG),
    _row(
        MLP, "influence_cg, Hessian", "torch-influence's algorithm: CG", "Hessian",
        columns=20, **_CG,
    ),
    _row(MLP, "influence", "curvlinops: GGN, CG", "Gauss-Newton", peer_tolerance=SOLVED),
    _row(MLP, "influence_lissa", "pyDVL: LiSSA", "Hessian, LiSSA's damping", **_LISSA),
    _row(MLP, "influence_lissa", "dattri: LiSSA", "Hessian, LiSSA's damping", columns=20, **_LISSA),
    _row(
        MLP, "influence_lissa", "torch-influence's algorithm: LiSSA", "Hessian, LiSSA's damping",
        columns=20, **_LISSA,
    ),
    _row(
        MLP, "influence_low_rank", "pyDVL: Arnoldi", "Hessian, leading eigenvectors",
        tolerance=SOLVED, peer_tolerance=SOLVED,
    ),
    _row(
        MLP, "influence_low_rank, and the rest", "pyDVL: Nyström", "Hessian", tolerance=0.2,
        peer_tolerance=WRONG,
    ),
    _row(
        CNN, "influence", "curvlinops: GGN, CG", "Gauss-Newton", columns=4, peer_tolerance=SOLVED
    ),
    _row(
        CNN, "influence_lissa", "pyDVL: LiSSA", "Hessian, LiSSA's damping",
        columns=4, tolerance=0.2, peer_tolerance=WRONG,
    ),
    _row(CNN, "influence_lissa", "dattri: LiSSA", "Hessian, LiSSA's damping", columns=2, **_LISSA),
    _row(
        CNN, "influence_lissa", "torch-influence's algorithm: LiSSA", "Hessian, LiSSA's damping",
        columns=4, **_LISSA,
    ),
    *(_row(case, "influence_ekfac", "curvlinops: EK-FAC", "EK-FAC") for case in (MLP, CNN)),
    *(
        _row(case, _FISHER, "kronfluence: EK-FAC", "EK-FAC, empirical Fisher")
        for case in (MLP, CNN)
    ),
    _row(MLP, "influence_ekfac", "pyDVL: EK-FAC", "EK-FAC", peer_tolerance=WRONG),
    _row(MLP, "influence_ekfac", "dattri: EK-FAC", "EK-FAC", peer_tolerance=WRONG),
    *(
        _row(case, "trak", peer, "TRAK", **_TRAK)
        for case in (MLP, CNN)
        for peer in ("traker: TRAK", "dattri: TRAK")
    ),
)  # fmt: skip
