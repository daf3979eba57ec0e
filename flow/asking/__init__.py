"""Ask the model, in plain Python: `from asking import ask, stream, Result` with flow/ on sys.path.

This is the whole logic. Prompt flow's nodes (../*.py) only call it, so an application that does without prompt flow,
which is retired in April 2027, loses nothing.
"""

from .calling import ask
from .result import Result, Status
from .streaming import stream

__all__ = ["Result", "Status", "ask", "stream"]
