"""An answer that isn't known yet, since it takes a call in a helper process: see base/helper.py."""

from collections.abc import Callable

from oomwatchd.base import helper

_SECONDS = 2.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar  # typing is half a MiB

    T = TypeVar("T")


class NotYet(Exception):
    """The answer isn't known yet.

    Whoever catches this calls `function` with `arguments` in a helper, passes the result to `learn` (None: there was no
    result), and asks again."""

    def __init__(
        self, function: helper.Function, arguments: tuple[object, ...], learn: Callable[[object], None]
    ) -> None:
        super().__init__(function.__name__)
        self.function = function
        self.arguments = arguments
        self.learn = learn

    def find_out(self) -> None:
        """Call the function in a helper, wait for the result, and pass it to `learn`. For programs that have nothing
        else to do."""
        try:
            answer = helper.call(self.function, *self.arguments, seconds=_SECONDS)
        except (helper.HelperError, OSError):
            answer = None
        self.learn(answer)


def settled(ask: "Callable[[], T]") -> "T":
    """The result of `ask`, which is called again after each NotYet has been found out. For programs that have nothing
    else to do."""
    while True:
        try:
            return ask()
        except NotYet as question:
            question.find_out()
