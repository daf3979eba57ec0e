"""Ask the model, in plain Python: `from asking import ask, stream, Result` with flow/ on sys.path.

This is the whole logic. Prompt flow's nodes (../*.py) only call it, so an application that does without prompt flow,
which is retired in April 2027, loses nothing. `answer` and `answer_stream` are the flow from end to end; `ask` and
`stream` are the call alone, for who has the messages.
"""

from .application import answer, answer_stream
from .calling import ask
from .result import Result, Status
from .streaming import stream

__all__ = ["Result", "Status", "answer", "answer_stream", "ask", "stream"]
