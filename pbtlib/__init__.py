"""Population-based training as a two-time-scale particle system: the library behind the book.

`pbt` runs the paper's algorithms on a problem and keeps the history; its parts are named below, loaded when used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pbtlib.algorithms import Run as Run
    from pbtlib.algorithms import pbt as pbt
    from pbtlib.evolution import Box as Box
    from pbtlib.evolution import GaussianMutation as GaussianMutation
    from pbtlib.evolution import Gibbs as Gibbs
    from pbtlib.evolution import Removal as Removal
    from pbtlib.evolution import Selection as Selection
    from pbtlib.evolution import Truncation as Truncation
    from pbtlib.history import History as History
    from pbtlib.loop import Lineage as Lineage
    from pbtlib.loop import Schedule as Schedule
    from pbtlib.loop import evolve as evolve
    from pbtlib.problems import Himmelblau as Himmelblau
    from pbtlib.problems import LinearGaussian as LinearGaussian
    from pbtlib.problems import Problem as Problem
    from pbtlib.problems import Quadratic as Quadratic
    from pbtlib.problems import check as check
    from pbtlib.training import EulerChain as EulerChain
    from pbtlib.training import EulerMaruyama as EulerMaruyama
    from pbtlib.training import ExactOU as ExactOU
    from pbtlib.training import GibbsDraw as GibbsDraw
    from pbtlib.training import Last as Last
    from pbtlib.training import LogMeanExp as LogMeanExp
    from pbtlib.training import Particles as Particles
    from pbtlib.training import Underdamped as Underdamped
    from pbtlib.training import WindowMean as WindowMean

__version__ = "0.2.0"

_ROOMS = {
    "algorithms": "pbt Run",
    "problems": "Problem Quadratic Himmelblau LinearGaussian check",
    "training": "Particles EulerMaruyama EulerChain ExactOU Underdamped GibbsDraw Last WindowMean LogMeanExp",
    "evolution": "Gibbs Removal Truncation Selection GaussianMutation Box",
    "loop": "evolve Lineage Schedule",
    "history": "History",
}
_PLACE = {name: room for room, names in _ROOMS.items() for name in names.split()}
__all__ = [*_PLACE, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PLACE:
        raise AttributeError(f"module 'pbtlib' has no attribute {name!r}")
    return getattr(import_module(f"pbtlib.{_PLACE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
