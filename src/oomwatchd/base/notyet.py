"""An answer that takes a call of the kind that may take for ever, see base/helper.py."""

from collections.abc import Callable

from oomwatchd.base import helper

_SECONDS = 2.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar  # typing is half a MiB

    T = TypeVar("T")


class NotYet(Exception):
    """What is asked isn't known yet. Whoever catches this has `function` called with `arguments` in a helper, hands
    what it returns to `learn` (None: it returned nothing), and asks again."""

    def __init__(
        self, function: helper.Function, arguments: tuple[object, ...], learn: Callable[[object], None]
    ) -> None:
        super().__init__(function.__name__)
        self.function = function
        self.arguments = arguments
        self.learn = learn

    def find_out(self) -> None:
        """Have it found out, and wait for it: for programs that have nothing else to do."""
        try:
            answer = helper.call(self.function, *self.arguments, seconds=_SECONDS)
        except (helper.HelperError, OSError):
            answer = None
        self.learn(answer)


def settled(ask: "Callable[[], T]") -> "T":
    """The answer, however often something has to be found out for it: for programs that have nothing else to do."""
    while True:
        try:
            return ask()
        except NotYet as question:
            question.find_out()
