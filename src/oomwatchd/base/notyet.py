"""An answer that isn't known yet, because a helper process must find it: see base/helper.py."""

from collections.abc import Callable

from oomwatchd.base import helper

_SECONDS = 2.0
"""How long find_out() waits for a helper."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar  # typing is half a MiB

    T = TypeVar("T")


class NotYet(Exception):
    """The answer isn't known yet.

    The code that catches this has a helper call `function` with `arguments`, passes the result to `learn` (None: there
    was no result), and asks again."""

    def __init__(
        self, function: helper.Function, arguments: tuple[object, ...], learn: Callable[[object], None]
    ) -> None:
        super().__init__(function.__name__)
        self.function = function
        self.arguments = arguments
        self.learn = learn

    def find_out(self) -> None:
        """Call the function in a helper, wait for the result for at most 2 s, and pass it to `learn`. This is for
        programs that have nothing else to do meanwhile."""
        try:
            answer = helper.call(self.function, *self.arguments, seconds=_SECONDS)
        except (helper.HelperError, OSError):
            answer = None
        self.learn(answer)


def settled(ask: "Callable[[], T]") -> "T":
    """The result of `ask`. While it raises NotYet, the missing answer is found out, and `ask` is called again. This is
    for programs that have nothing else to do meanwhile."""
    while True:
        try:
            return ask()
        except NotYet as question:
            question.find_out()
